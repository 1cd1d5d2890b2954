// A persistent team of threads that runs one function at a time, all threads together (SPMD).
//
// Threads spin a little between and inside runs, since a decode step has ~150 barriers; after that they yield
// inside a run (so that an oversubscribed machine still makes progress) and sleep between runs.
#pragma once
#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

namespace tokenworks {

class Team {
public:
    explicit Team(int threads);
    ~Team();
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int size() const { return size_; }
    // Calls task(thread) on the first `threads` of the team, the caller being thread 0; returns when all are done. The
    // task must not throw: nobody could end the others, which wait for each other.
    void run(int threads, const std::function<void(int)>& task);
    // Inside a run: waits until every thread of the run has arrived.
    void barrier();
    // Of the last run: how long its threads waited at barriers beyond a short spin, all added up.
    std::chrono::nanoseconds waited() const { return std::chrono::nanoseconds(waited_.load(std::memory_order_relaxed)); }

private:
    using Clock = std::chrono::steady_clock;

    void serve(int thread);
    void announce(uint32_t threads);
    void stop();

    const int size_;
    const std::function<void(int)>* task_ = nullptr;
    int running_ = 1;  // threads of the current run
    // Number of the run and its threads in one word, so that a thread that was left out of some runs and looks up late
    // never takes one run's threads for another's.
    alignas(64) std::atomic<uint32_t> generation_{0};
    alignas(64) std::atomic<int> arrived_{0};
    std::atomic<int64_t> waited_{0};
    alignas(64) std::atomic<uint32_t> phase_{0};
    std::atomic<bool> stop_{false};
    std::vector<std::thread> threads_;
};

// Hands out work items of one operation; reset before each run.
struct alignas(64) Cursor {
    std::atomic<int> next{0};
};

}  // namespace tokenworks
