// The team under every number of threads it may be asked for, at rest and beside another team on the same processors,
// and the policy that chooses that number. Exits 1 at the first disagreement and says where.
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <thread>
#include <vector>

#include "../crew.h"
#include "../team.h"

using namespace tokenworks;

namespace {

void expect(bool holds, const char* what) {
    if (holds) return;
    std::printf("FAILED: %s\n", what);
    std::exit(1);
}

void runs_use_exactly_the_threads_they_ask_for() {
    constexpr int kSize = 3, kSteps = 10;
    Team team(kSize);
    for (int run = 0; run < 600; ++run) {
        const int threads = 1 + run * 7 % 11 % kSize;
        std::vector<int> steps(kSize, 0);
        std::atomic<int> arrived{0};
        std::atomic<bool> ordered{true};
        team.run(threads, [&](int thread) {
            for (int step = 1; step <= kSteps; ++step) {
                ++steps[size_t(thread)];
                arrived.fetch_add(1);
                team.barrier();
                if (arrived.load() < step * threads) ordered = false;  // somebody came through too early
                team.barrier();
            }
        });
        expect(ordered, "a barrier let a thread through before all had come");
        for (int thread = 0; thread < kSize; ++thread)
            expect(steps[size_t(thread)] == (thread < threads ? kSteps : 0), "a run had other threads than it asked for");
    }
}

double processor_seconds() {  // of all threads of this program
    timespec spent;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
    return double(spent.tv_sec) + double(spent.tv_nsec) * 1e-9;
}

void work(Team& team, int runs, int barriers) {
    for (int run = 0; run < runs; ++run)
        team.run(team.size(), [&](int) {
            for (int i = 0; i < barriers; ++i) team.barrier();
        });
}

void a_team_without_work_takes_no_processor_time() {
    Team team(4);
    work(team, 50, 20);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // what a thread spins before it sleeps
    const double before = processor_seconds();
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    expect(processor_seconds() - before < 0.01, "a team without work keeps a processor busy");
}

// More threads than this machine may have processors: all must come to an end, though each run waits for all of its own.
void teams_beside_each_other_finish() {
    constexpr int kTeams = 3, kThreads = 3;
    std::vector<std::thread> engines;
    for (int engine = 0; engine < kTeams; ++engine)
        engines.emplace_back([] {
            Team team(kThreads);
            work(team, 40, 50);
        });
    for (std::thread& engine : engines) engine.join();
}

void a_crew_without_losses_stays_whole() {
    Crew crew(4);
    for (int run = 0; run < 1000; ++run) {
        expect(crew.threads() == 4, "a crew shrank without a reason");
        crew.record(run % 10 == 0 ? 0.9 : 0.02);  // now and then a hiccup
    }
}

int runs_until_whole(Crew& crew, int size) {
    int runs = 0;
    for (; crew.threads() < size; ++runs) crew.record(0.0);
    return runs;
}

void a_crew_shrinks_when_waiting_costs_more_than_a_thread_brings() {
    Crew crew(2);
    int runs = 0;
    for (; crew.threads() == 2 && runs < 100; ++runs) crew.record(0.8);
    expect(crew.threads() == 1 && runs == 3, "a crowded crew did not shrink within a few runs");
    const int first = runs_until_whole(crew, 2);
    crew.record(0.8);
    expect(crew.threads() == 1, "a crew that tried again and lost was not shrunk at once");
    const int second = runs_until_whole(crew, 2);
    expect(second == 2 * first, "a crew that lost again did not wait twice as long");
    for (int run = 0; run < 20; ++run) crew.record(0.0);
    for (runs = 0; crew.threads() == 2 && runs < 100; ++runs) crew.record(0.8);
    expect(runs_until_whole(crew, 2) == first, "a crew that recovered did not forget");
}

void a_crew_of_one_has_nothing_to_decide() {
    Crew crew(1);
    for (int run = 0; run < 100; ++run) crew.record(0.9);
    expect(crew.threads() == 1, "a crew of one changed");
}

void patience_is_bounded() {
    Crew crew(2);
    int longest = 0;
    for (int round = 0; round < 20; ++round) {
        while (crew.threads() == 2) crew.record(1.0);
        longest = runs_until_whole(crew, 2);
    }
    expect(longest == 256, "patience is not bounded");
}

}  // namespace

int main() {
    runs_use_exactly_the_threads_they_ask_for();
    a_team_without_work_takes_no_processor_time();
    teams_beside_each_other_finish();
    a_crew_without_losses_stays_whole();
    a_crew_shrinks_when_waiting_costs_more_than_a_thread_brings();
    a_crew_of_one_has_nothing_to_decide();
    patience_is_bounded();
    std::printf("all hold\n");
}
