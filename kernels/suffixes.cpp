#include "suffixes.h"

namespace tokenworks {
namespace {

// Suffixes longer than that many links are hardly ever told apart by what follows them, and a text that repeats one
// token has as many links as tokens.
constexpr int kMostLinks = 32;
// Of what followed a string, the latest that many different tokens are looked at.
constexpr int kMostFollowers = 256;

size_t hash(int from, int token) {
    uint64_t key = (uint64_t(uint32_t(from)) << 32 | uint32_t(token)) * 0x9E3779B97F4A7C15ull;
    return size_t(key ^ key >> 29);
}

}  // namespace

Suffixes::Suffixes() : table_(64, -1) { new_state(0, -1); }

int Suffixes::new_state(int length, int link) {
    states_.push_back({length, link});
    return int(states_.size()) - 1;
}

int Suffixes::edge_at(int from, int token) const {
    const size_t mask = table_.size() - 1;
    for (size_t at = hash(from, token) & mask; table_[at] >= 0; at = (at + 1) & mask) {
        const Edge& edge = edges_[size_t(table_[at])];
        if (edge.from == from && edge.token == token) return table_[at];
    }
    return -1;
}

int Suffixes::target(int from, int token) const {
    const int edge = edge_at(from, token);
    return edge < 0 ? -1 : edges_[size_t(edge)].to;
}

void Suffixes::set_target(int from, int token, int to) {
    const int known = edge_at(from, token);
    if (known >= 0) {
        edges_[size_t(known)].to = to;
        return;
    }
    if (2 * (edges_.size() + 1) > table_.size()) grow_table();
    const size_t mask = table_.size() - 1;
    size_t at = hash(from, token) & mask;
    while (table_[at] >= 0) at = (at + 1) & mask;
    table_[at] = int(edges_.size());
    State& state = states_[size_t(from)];
    edges_.push_back({from, token, to, state.first});
    state.first = table_[at];
}

void Suffixes::grow_table() {
    table_.assign(table_.size() * 2, -1);
    const size_t mask = table_.size() - 1;
    for (size_t i = 0; i < edges_.size(); ++i) {
        size_t at = hash(edges_[i].from, edges_[i].token) & mask;
        while (table_[at] >= 0) at = (at + 1) & mask;
        table_[at] = int(i);
    }
}

// The strings of `of` that are no longer than `length` become a state of their own, with the same edges.
int Suffixes::clone(int of, int length) {
    const State old = states_[size_t(of)];
    const int made = new_state(length, old.link);
    states_[size_t(made)].count = old.count;
    states_[size_t(made)].said = old.said;
    std::vector<Edge> copied;
    for (int edge = old.first; edge >= 0; edge = edges_[size_t(edge)].next) copied.push_back(edges_[size_t(edge)]);
    for (const Edge& edge : copied) set_target(made, edge.token, edge.to);
    states_[size_t(of)].link = made;
    return made;
}

void Suffixes::add(int token) {
    ++size_;
    // From an earlier text this very string may be known already.
    const int known = target(last_, token);
    int from = last_, reached;
    if (known >= 0) {
        reached = known;
    } else {
        reached = new_state(states_[size_t(last_)].length + 1, 0);
        for (; from >= 0 && target(from, token) < 0; from = states_[size_t(from)].link) set_target(from, token, reached);
    }
    if (from >= 0) {
        const int length = states_[size_t(from)].length + 1;
        int next = target(from, token);
        if (states_[size_t(next)].length != length) {
            const int whole = next;
            next = clone(whole, length);
            for (int at = from; at >= 0 && target(at, token) == whole; at = states_[size_t(at)].link) set_target(at, token, next);
        }
        if (known >= 0)
            reached = next;
        else
            states_[size_t(reached)].link = next;
    }
    last_ = reached;
    said_again(reached);
}

void Suffixes::said_again(int state) {
    for (int links = 0; state > 0 && links < kMostLinks; ++links, state = states_[size_t(state)].link) {
        ++states_[size_t(state)].count;
        states_[size_t(state)].said = int(size_);
    }
}

Suffixes::Place Suffixes::tail() const {
    const int link = states_[size_t(last_)].link;
    return link < 0 ? Place{} : Place{link, states_[size_t(link)].length};
}

Suffixes::Place Suffixes::follow(Place place, int token) const {
    // Since the place was found, its state may have been split.
    auto settle = [&] {
        while (place.state > 0 && place.length <= states_[size_t(states_[size_t(place.state)].link)].length)
            place.state = states_[size_t(place.state)].link;
    };
    settle();
    while (place.state > 0 && target(place.state, token) < 0) {
        place.state = states_[size_t(place.state)].link;
        place.length = states_[size_t(place.state)].length;
    }
    const int next = target(place.state, token);
    return next < 0 ? Place{} : Place{next, place.length + 1};
}

std::optional<Suffixes::Guess> Suffixes::guess(Place place) const {
    if (place.state == 0) return {};
    int followed = 0, best = -1, seen = 0;
    const State* leads = nullptr;
    for (int at = states_[size_t(place.state)].first; at >= 0 && seen < kMostFollowers; at = edges_[size_t(at)].next, ++seen) {
        const State& to = states_[size_t(edges_[size_t(at)].to)];
        followed += to.count;
        if (leads && (to.count < leads->count || (to.count == leads->count && to.said < leads->said))) continue;
        best = at, leads = &to;
    }
    if (best < 0) return {};
    return Guess{edges_[size_t(best)].token, float(leads->count) / float(followed)};
}

}  // namespace tokenworks
