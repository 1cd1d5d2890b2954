#include "team.h"

#include <sched.h>

namespace tokenworks {

namespace {

constexpr int kSpins = 4000;  // about 50 µs: longer than the gap between two forwards, shorter than a person notices

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace

Team::Team(int threads) : size_(threads) {
    try {
        for (int thread = 1; thread < size_; ++thread) threads_.emplace_back([this, thread] { serve(thread); });
    } catch (...) {  // the system allows no more: those that wait already must end before we do
        stop();
        throw;
    }
}

Team::~Team() { stop(); }

void Team::stop() {
    stop_.store(true, std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    for (auto& thread : threads_) thread.join();
}

void Team::run(const std::function<void(int)>& task) {
    task_ = &task;
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    task(0);
    barrier();
}

void Team::barrier() {
    const uint32_t phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
        arrived_.store(0, std::memory_order_relaxed);
        phase_.store(phase + 1, std::memory_order_release);
        return;
    }
    for (int spin = 0; phase_.load(std::memory_order_acquire) == phase; ++spin) {
        if (spin < kSpins)
            relax();
        else
            sched_yield();
    }
}

void Team::serve(int thread) {
    uint32_t seen = 0;
    for (;;) {
        for (int spin = 0; spin < kSpins && generation_.load(std::memory_order_acquire) == seen; ++spin) relax();
        generation_.wait(seen, std::memory_order_acquire);
        ++seen;
        if (stop_.load(std::memory_order_relaxed)) return;
        (*task_)(thread);
        barrier();
    }
}

}  // namespace tokenworks
