#include "kernels.h"
#include "simd_neon.h"

#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace tokenworks::neon {
#include "kernels.inl"
static bool supported() {
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
    return true;  // every Apple processor of this architecture has the dot-product extension
#endif
}
}  // namespace tokenworks::neon

namespace tokenworks {
const Kernels kNeonKernels = {"neon",          neon::supported, neon::product, neon::rms_norm, neon::layer_norm, neon::add_to, neon::quantise,
                              neon::activate, neon::rotate,    neon::to_half, neon::attend};
}
