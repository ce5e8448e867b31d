// Entry point for libFuzzer: whatever the bytes, they are refused, or are a
// potential that can be evaluated.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "mtp_impl.h"
#include "mtp_system.h"

// Only the baseline kernels are built, see tests/native/fuzz.
namespace argyase {
Selection select_avx2(const int *rank, int count, const Potential &p) {
  return select_baseline(rank, count, p);
}
Selection select_avx512(const int *rank, int count, const Potential &p) {
  return select_baseline(rank, count, p);
}
} // namespace argyase

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const std::string_view text(reinterpret_cast<const char *>(data), size);
  argyase::Potential potential;
  try {
    potential = argyase::parse_mtp(text, true);
    potential = argyase::parse_mtp(text);
  } catch (const argyase::ParseError &) {
    return 0;
  }
  // A cutoff of many cells is right but slow.
  if (potential.max_dist > 50)
    return 0;
  const argyase::Kernel kernel(potential);
  argyase::System system(kernel, 1);
  // Nine atoms, one more than a batch; the last is alone.
  const std::vector<double> x = {0,   0,   0,   1.1, 0,   0,   1.9, 0.1, 0.3,
                                 0.2, 2.1, 0.4, 2.2, 2.0, 0.1, 0.3, 0.2, 2.3,
                                 2.1, 0.4, 1.8, 0.1, 2.2, 1.7, 900, 900, 900};
  std::vector<int> species;
  for (int i = 0; i < 9; ++i)
    species.push_back(i % kernel.species_count());
  std::vector<double> f(x.size(), 0.0), energies(9);
  argyase::Outputs out;
  out.energies = energies.data();
  system.build(9, 9, x.data(), species.data(), 0.5);
  system.compute<double>(x.data(), f.data(), out);
  system.compute<float>(x.data(), f.data(), out);
  // Of an atom alone nothing is left but its own energy.
  if (energies[8] != potential.species_coeffs[species[8]])
    __builtin_trap();
  return 0;
}
