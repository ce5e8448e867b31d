#include "design.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "design_impl.h"
#include "images.h"
#include "neighbour_list.h"

namespace argyase {

int Frames::Frame::most_neighbours() const {
  long most = 0;
  for (int i = 0; i < atoms(); ++i) most = std::max(most, begin[i + 1] - begin[i]);
  return static_cast<int>(most);
}

void Frames::add(int atoms, const double* x, const int* species, const double* cell, const bool* periodic) {
  const Images images = images_of(atoms, x, species, cell, periodic, cutoff_);
  const int count = static_cast<int>(images.origin.size());
  // One species is enough: neighbours are wanted in any order.
  const std::vector<int> same(count, 0);
  NeighbourList list;
  Threads alone(1);
  list.build(atoms, count, images.x.data(), same.data(), 1, cutoff_, search_, alone);
  std::vector<int> centre(atoms);
  for (int k = 0; k < atoms; ++k) centre[list.atom(list.centre(k))] = k;
  Frame frame;
  frame.species.assign(species, species + atoms);
  frame.begin.push_back(0);
  for (int i = 0; i < atoms; ++i) {
    const int k = centre[i];
    const int *near = list.neighbours(k), *segment = list.segment(k);
    for (int n = segment[0]; n < segment[1]; ++n) {
      const int j = list.atom(near[n] / 4);
      double d[3], r2 = 0;
      for (int c = 0; c < 3; ++c) d[c] = images.x[3 * j + c] - images.x[3 * i + c], r2 += d[c] * d[c];
      if (r2 >= cutoff_ * cutoff_) continue;
      frame.neighbour.push_back(images.origin[j]);
      frame.distance.insert(frame.distance.end(), d, d + 3);
    }
    frame.begin.push_back(static_cast<long>(frame.neighbour.size()));
  }
  frame.neighbour.shrink_to_fit(), frame.distance.shrink_to_fit();
  frames_.push_back(std::move(frame));
}

Design::Design(const Potential& p) : impl_(std::make_unique<Impl>()) {
  Impl& k = *impl_;
  k.species = p.species_count, k.mus = p.radial_funcs_count, k.basis = p.radial_basis_size;
  k.basics = static_cast<int>(p.index_basic.size()), k.moments = p.alpha_moments_count;
  k.scalars = static_cast<int>(p.moment_mapping.size()), k.products = static_cast<int>(p.index_times.size());
  k.cutoff = p.max_dist, k.nearest = p.min_dist, k.scaling = p.scaling, k.rank = 0;
  for (const auto& [mu, a, b, c] : p.index_basic) {
    k.mu.push_back(mu), k.monomial.push_back(monomial(a, b, c));
    k.rank = std::max(k.rank, a + b + c);
  }
  for (int m = 0; m < monomials(k.rank); ++m) {
    const auto [parent, axis] = step_to(m);
    k.parent.push_back(parent), k.axis.push_back(axis);
  }
  k.times = p.index_times, k.scalar_of = p.moment_mapping;
  k.radial = p.radial_coeffs, k.linear = p.moment_coeffs;
  const std::string isa = instruction_set();
  k.rows = design_rows_baseline;
#if defined(__x86_64__)
  if (isa == "avx2") k.rows = design_rows_avx2;
  if (isa == "avx512") k.rows = design_rows_avx512;
#endif
}

Design::~Design() = default;

int Design::linear_columns() const { return impl_->species + impl_->scalars; }
int Design::radial_columns() const { return impl_->species * impl_->radial_of_atom(); }

size_t Design::Impl::room(int neighbours) const {
  const size_t n = neighbours, monos = monomials(rank);
  const size_t width = scalars + radial_of_atom() + 2 * padding;
  return 2 * n * basis + 2 * n * mus + 3 * n + 4 * n * monos + 2 * moments + basics * 3 * (n + 3) +
         basics * width + 2 * static_cast<size_t>(moments) * kLanes + monos * species * basis + 16 * 8;
}

void Design::compute(const Frames& frames, int first, int last, bool radial, const double* weights,
                     double* out, long stride, Threads& threads) const {
  const Impl& k = *impl_;
  std::vector<long> row{0};
  int most = 0;
  for (int f = first; f < last; ++f) {
    row.push_back(row.back() + rows(frames[f].atoms()));
    most = std::max(most, frames[f].most_neighbours());
  }
  const int parts = std::min(threads.count(), last - first);
  if (parts < 1) return;
  std::vector<Array<double>> rooms(parts);
  std::atomic<int> next{first};
  threads.run(parts, [&](int n) {
    rooms[n].resize(k.room(most));
    for (int f; (f = next++) < last;) {
      double* to = out + row[f - first] * stride;
      const int count = rows(frames[f].atoms());
      std::fill(to, to + count * stride, 0.0);
      k.rows(k, frames[f], radial, to, stride, rooms[n]);
      for (int r = 0; r < count; ++r) {
        const double w = weights[row[f - first] + r];
        for (long c = 0; c < stride; ++c) to[r * stride + c] *= w;
      }
    }
  });
}

}  // namespace argyase
