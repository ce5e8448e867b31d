#include "repulsion.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace argyase {
namespace {

// Whether one of the first count numbers is below the limit, or of a few behind them, which are readable. By
// the narrowest vectors: GCC takes wider ones than the instruction set has apart, number by number.
template <class T>
bool any_below(const T* numbers, int count, T limit) {
  typedef T V __attribute__((vector_size(16)));
  typedef T VU __attribute__((vector_size(16), aligned(sizeof(T)), may_alias));
  constexpr int W = 16 / sizeof(T);
  const V at = V{} + limit;
  auto below = V{} > V{}, other = below;
  for (int m = 0; m < count; m += 2 * W) {
    below |= *reinterpret_cast<const VU*>(numbers + m) < at;
    other |= *reinterpret_cast<const VU*>(numbers + m + W) < at;
  }
  below |= other;
  bool any = false;
  for (int l = 0; l < W; ++l) any |= below[l] != 0;
  return any;
}

}  // namespace

Repulsion::Repulsion(int species_count)
    : kinds_(species_count),
      pairs_(static_cast<size_t>(species_count) * species_count),
      farthest_(species_count) {}

void Repulsion::set(int i, int j, double z_i, double z_j, double inner, double outer, double cutoff) {
  const auto wrong = [&](const std::string& what) {
    throw std::invalid_argument("repulsion of species " + std::to_string(i) + " and " + std::to_string(j) +
                                ": " + what);
  };
  if (i < 0 || j < 0 || i >= kinds_ || j >= kinds_)
    wrong("the potential has the species 0 to " + std::to_string(kinds_ - 1));
  for (const double z : {z_i, z_j})
    if (!(z > 0 && z <= 120)) wrong("nuclear charge " + std::to_string(z) + ": allowed are 0 < Z <= 120");
  if (!(inner > 0 && inner < outer && outer <= cutoff))
    wrong("inner = " + std::to_string(inner) + ", outer = " + std::to_string(outer) +
          " A: need 0 < inner < outer <= " + std::to_string(cutoff) + " (the cutoff)");
  const double per_length = (std::pow(z_i, 0.23) + std::pow(z_j, 0.23)) / 0.46850;
  pairs_[static_cast<size_t>(i) * kinds_ + j] =
      pairs_[static_cast<size_t>(j) * kinds_ + i] = {kCoulomb * z_i * z_j, per_length, inner, outer};
  for (int s = 0; s < kinds_; ++s) {
    farthest_[s] = 0;
    for (int other = 0; other < kinds_; ++other)
      farthest_[s] = std::max(farthest_[s], pairs_[static_cast<size_t>(s) * kinds_ + other].outer);
  }
}

Repulsion::Value Repulsion::value(const Pair& pair, double r) {
  if (!(r < pair.outer)) return {0, 0};
  constexpr double c[4] = {0.02817, 0.28022, 0.50986, 0.18175}, d[4] = {0.20162, 0.40290, 0.94229, 3.19980};
  double screening = 0, dscreening = 0;
  for (int n = 0; n < 4; ++n) {
    const double rate = d[n] * pair.per_length, part = c[n] * std::exp(-rate * r);
    screening += part, dscreening -= rate * part;
  }
  const double bare = pair.strength / r;
  double energy = bare * screening, slope = bare * (dscreening - screening / r);
  if (r > pair.inner) {
    const double width = pair.outer - pair.inner, t = (r - pair.inner) / width;
    const double s = 1 - t * t * t * (10 - 15 * t + 6 * t * t);
    const double ds = -30 * t * t * (1 - t) * (1 - t) / width;
    slope = slope * s + energy * ds;
    energy *= s;
  }
  return {energy, slope};
}

Repulsion::Value Repulsion::at(int i, int j, double r) const {
  return value(pairs_[static_cast<size_t>(i) * kinds_ + j], r);
}

template <class T>
double Repulsion::add(const Neighbours& nb, const T* distances, const Places& at,
                      const Target& target) const {
  const Pair* pairs = pairs_.data() + static_cast<size_t>(nb.species) * kinds_;
  double energy = 0;
  // Hardly ever is one near: first a look at all of them by vectors, a little farther than needed, because
  // distances are rounded.
  const auto limit = [](double outer) { return static_cast<T>(outer * (1 + 1e-5)); };
  if (farthest_[nb.species] == 0 || !any_below(distances, nb.begin[kinds_], limit(farthest_[nb.species])))
    return energy;
  const double* centre = at.x + 4 * static_cast<size_t>(nb.place);
  for (int s = 0; s < kinds_; ++s)
    for (int m = nb.begin[s]; pairs[s].outer > 0 && m < nb.begin[s + 1]; ++m) {
      if (!(distances[m] < limit(pairs[s].outer))) continue;
      const double* other = at.x + nb.tag[m];
      const double d[3] = {other[0] - centre[0], other[1] - centre[1], other[2] - centre[2]};
      const double r = std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
      const Value v = value(pairs[s], r);
      energy += 0.5 * v.energy;
      const double g = 0.5 * v.slope / r;
      const size_t j = nb.tag[m], i = 4 * static_cast<size_t>(nb.place);
      for (int c = 0; c < 3; ++c) target.f[j + c] -= g * d[c], target.f[i + c] += g * d[c];
      if (!target.v) continue;
      for (const size_t k : {2 * i, 2 * j})
        for (int c = 0; c < 3; ++c) {
          target.v[k + c] -= 0.5 * g * d[c] * d[c];
          target.v[k + 4 + c] -= 0.5 * g * d[c == 2 ? 1 : 0] * d[c == 0 ? 1 : 2];
        }
    }
  return energy;
}
template double Repulsion::add(const Neighbours&, const double*, const Places&, const Target&) const;
template double Repulsion::add(const Neighbours&, const float*, const Places&, const Target&) const;

}  // namespace argyase
