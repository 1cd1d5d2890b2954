#include "team.h"

#include <sched.h>

namespace tokenworks {

namespace {

constexpr uint32_t kThreadsMask = 0xFFF;  // low bits of a generation: the run's threads; above them its number

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

void Team::announce(uint32_t threads) {
    const uint32_t number = (generation_.load(std::memory_order_relaxed) & ~kThreadsMask) + kThreadsMask + 1;
    generation_.store(number | threads, std::memory_order_release);
    generation_.notify_all();
}

void Team::stop() {
    stop_.store(true, std::memory_order_relaxed);
    announce(uint32_t(size_));
    for (auto& thread : threads_) thread.join();
}

void Team::run(int threads, const std::function<void(int)>& task) {
    task_ = &task;
    running_ = threads;
    waited_.store(0, std::memory_order_relaxed);
    if (threads > 1) announce(uint32_t(threads));
    task(0);
    barrier();
}

void Team::barrier() {
    const int running = running_;  // read before arriving: after that the next run may set it
    if (running == 1) return;
    const uint32_t phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == running) {
        arrived_.store(0, std::memory_order_relaxed);
        phase_.store(phase + 1, std::memory_order_release);
        return;
    }
    for (int spin = 0; spin < kSpins; ++spin) {
        if (phase_.load(std::memory_order_acquire) != phase) return;
        relax();
    }
    const auto begin = Clock::now();
    while (phase_.load(std::memory_order_acquire) == phase) sched_yield();
    const auto waited = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - begin);
    waited_.fetch_add(waited.count(), std::memory_order_relaxed);
}

void Team::serve(int thread) {
    uint32_t seen = 0;
    for (;;) {
        for (int spin = 0; spin < kSpins && generation_.load(std::memory_order_acquire) == seen; ++spin) relax();
        generation_.wait(seen, std::memory_order_acquire);
        seen = generation_.load(std::memory_order_acquire);
        if (stop_.load(std::memory_order_relaxed)) return;
        if (uint32_t(thread) >= (seen & kThreadsMask)) continue;
        (*task_)(thread);
        barrier();
    }
}

}  // namespace tokenworks
