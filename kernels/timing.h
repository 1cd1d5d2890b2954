// What the kernels take for a panel, so that the formats of weights can be chosen by measurement.
#pragma once
#include <vector>

#include "kernels.h"

namespace tokenworks {

// Seconds that a panel of `inputs` columns in each of the formats takes of all threads together, with `rows` rows of
// activations: the fastest of `runs` passes, since other programs only add to it. The formats take turns, and each pass
// reads another `pass_bytes` of a memory of `memory_bytes`, so that caches hold as much of it as of a model of that size.
std::vector<double> panel_seconds(const Kernels& kernels, int threads, int inputs, const std::vector<Format>& formats,
                                  int rows, size_t memory_bytes, size_t pass_bytes, int runs);

}  // namespace tokenworks
