// How many threads of a team the next run should use. Pure: it knows no thread and no clock.
//
// When another process takes a core, the thread that runs there holds its piece of work while all others wait at the
// barrier: two threads on one and a half cores can be slower than one. So a run is given a thread less when waiting
// costs more than that thread contributes, and after a while the whole team is tried again.
#pragma once
#include <algorithm>

namespace tokenworks {

class Crew {
public:
    explicit Crew(int size) : size_(size), threads_(size) {}

    int threads() const { return threads_; }

    // What the last run, with threads(), lost: the share of its time in which one thread kept all others waiting.
    void record(double lost) {
        const bool bad = threads_ > 1 && lost > 1.0 / threads_;
        bad_runs_ = bad ? bad_runs_ + 1 : 0;
        if (bad_runs_ >= (tried_again_ ? 1 : kBadRuns)) {
            patience_ = tried_again_ ? std::min(2 * patience_, kMostPatience) : kPatience;
            runs_left_ = patience_;
            tried_again_ = false;
            bad_runs_ = 0;
            --threads_;
        } else if (threads_ < size_ && --runs_left_ <= 0) {
            threads_ = size_;
            tried_again_ = true;
        } else if (threads_ == size_ && !bad) {
            tried_again_ = false;
        }
    }

private:
    static constexpr int kBadRuns = 3;  // in a row: a single hiccup is no reason
    static constexpr int kPatience = 16, kMostPatience = 256;  // runs until the whole team is tried again

    const int size_;
    int threads_;
    int bad_runs_ = 0, patience_ = kPatience, runs_left_ = 0;
    bool tried_again_ = false;
};

}  // namespace tokenworks
