#include "arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace tokenworks {

namespace {
constexpr size_t kHugePage = size_t(2) << 20, kBlockBytes = size_t(64) << 20;
}

Arena::~Arena() {
    for (const Block& block : blocks_) munmap(block.data, block.bytes);
}

uint8_t* Arena::allocate(size_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    if (bytes > left_) {
        const size_t size = (std::max(bytes, kBlockBytes) + kHugePage - 1) / kHugePage * kHugePage;
        void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
        madvise(p, size, MADV_HUGEPAGE);
#endif
        blocks_.push_back({static_cast<uint8_t*>(p), size});
        left_ = size;
    }
    const Block& block = blocks_.back();
    uint8_t* at = block.data + (block.bytes - left_);
    left_ -= bytes;
    used_ += bytes;
    return at;
}

}  // namespace tokenworks
