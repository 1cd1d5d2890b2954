// Memory that begins with a cache line and ends with one: no vector in it lies across two, and no two buffers share one.
#pragma once
#include <cstddef>
#include <new>
#include <vector>

namespace tokenworks {

constexpr size_t kCacheLine = 64;

template <typename T>
struct LineAllocator {
    using value_type = T;

    LineAllocator() = default;
    template <typename U>
    LineAllocator(const LineAllocator<U>&) {}

    T* allocate(size_t count) {
        const size_t bytes = (count * sizeof(T) + kCacheLine - 1) / kCacheLine * kCacheLine;
        return static_cast<T*>(::operator new(bytes, std::align_val_t(kCacheLine)));
    }
    void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(kCacheLine)); }
    bool operator==(const LineAllocator&) const { return true; }
};

template <typename T>
using Buffer = std::vector<T, LineAllocator<T>>;

}  // namespace tokenworks
