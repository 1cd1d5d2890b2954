// Memory for weights, never freed piece by piece: large blocks that ask for huge pages, since weights are
// streamed and TLB misses would show.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tokenworks {

class Arena {
public:
    Arena() = default;
    ~Arena();
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    uint8_t* allocate(size_t bytes);  // zeroed, aligned to 64 bytes; throws std::bad_alloc
    size_t used() const { return used_; }

private:
    struct Block {
        uint8_t* data;
        size_t bytes;
    };
    std::vector<Block> blocks_;
    size_t left_ = 0;  // at the end of the last block
    size_t used_ = 0;
};

}  // namespace tokenworks
