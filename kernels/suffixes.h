#pragma once
// The suffix automaton of texts that grow: where was what has just been said said before, and what came next?
//
// A state stands for all strings that end at the same places. Adding a token costs constant time on average
// (Blumer et al. 1985); texts after each other share one automaton, as in SAM decoding (Hu et al. 2024).
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace tokenworks {

class Suffixes {
public:
    // The last `length` tokens that were read are a string of this state.
    struct Place {
        int state = 0;
        int length = 0;
    };
    struct Guess {
        int token;
        float share;  // of the times the string before it was followed by anything
    };

    Suffixes();
    void add(int token);
    // The next token begins another text.
    void end() { last_ = 0; }
    size_t size() const { return size_; }
    // Of the text that grows: its longest suffix that stands elsewhere too.
    Place tail() const;
    // Of another text that goes on with `token`: its longest suffix that stands here.
    Place follow(Place place, int token) const;
    // What followed most often, of equals the latest; nothing at the end of all texts, nor for an empty string.
    std::optional<Guess> guess(Place place) const;
    int states() const { return int(states_.size()); }

private:
    struct State {
        int length;       // of its longest string
        int link;         // the state of the longest suffix that ends elsewhere too; -1 for the root
        int first = -1;   // of its edges
        int count = 0;    // how often its strings were said
        int said = 0;     // when last
    };
    struct Edge {
        int from, token, to, next;
    };

    int new_state(int length, int link);
    int edge_at(int from, int token) const;
    int target(int from, int token) const;
    void set_target(int from, int token, int to);
    int clone(int of, int length);
    void said_again(int state);
    void grow_table();

    std::vector<State> states_;
    std::vector<Edge> edges_;
    std::vector<int> table_;  // edges by (from, token), open addressing; -1 where there is none
    size_t size_ = 0;
    int last_ = 0;
};

}  // namespace tokenworks
