// Which optional instructions this Arm processor has, by the word of its operating system.
#pragma once
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace tokenworks::arm {

// Bits of the kernel's arch/arm64/include/uapi/asm/hwcap.h; older headers lack the second.
[[maybe_unused]] constexpr unsigned long kDotProducts = 1ul << 20;    // HWCAP_ASIMDDP
[[maybe_unused]] constexpr unsigned long kMatrixProducts = 1ul << 13;  // HWCAP2_I8MM

// Static, not inline: each path keeps its own copy, compiled for its own instructions.
[[maybe_unused]] static bool has_dot_products() {
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & kDotProducts) != 0;
#elif defined(__APPLE__)
    return true;  // as every 64-bit Arm processor in a Mac
#else
    return false;
#endif
}

[[maybe_unused]] static bool has_matrix_products() {
#if defined(__linux__)
    return (getauxval(AT_HWCAP2) & kMatrixProducts) != 0;
#elif defined(__APPLE__)
    int has = 0;
    size_t size = sizeof has;
    return sysctlbyname("hw.optional.arm.FEAT_I8MM", &has, &size, nullptr, 0) == 0 && has != 0;
#else
    return false;
#endif
}

}  // namespace tokenworks::arm
