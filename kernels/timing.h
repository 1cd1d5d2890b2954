// What the kernels take for a panel, so that the formats of weights can be chosen by measurement.
#pragma once
#include <vector>

#include "kernels.h"

namespace tokenworks {

// Seconds a panel of `inputs` columns in each of the formats takes of all threads together, with `rows` rows of activations:
// the fastest of `runs` passes, since others' work only adds, over different `pass_bytes` of a memory of `memory_bytes`, the formats in turn, so that caches hold
// of it what they would of a model of that size.
std::vector<double> panel_seconds(const Kernels& kernels, int threads, int inputs, const std::vector<Format>& formats,
                                  int rows, size_t memory_bytes, size_t pass_bytes, int runs);

}  // namespace tokenworks
