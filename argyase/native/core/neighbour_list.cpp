#include "neighbour_list.h"

#include <algorithm>
#include <cmath>

namespace argyase {

// By vectors, of which three hold two atoms: at each step of a simulation, this is work that threads do not
// share.
void extent(int count, const double* x, double* low, double* high) {
  typedef double V __attribute__((vector_size(16)));
  typedef double VU __attribute__((vector_size(16), aligned(8), may_alias));
  for (int c = 0; c < 3; ++c) low[c] = high[c] = count > 0 ? x[c] : 0.0;
  V least[3] = {{low[0], low[1]}, {low[2], low[0]}, {low[1], low[2]}};
  V most[3] = {least[0], least[1], least[2]};
  const double* end = x + 3 * static_cast<size_t>(count);
  for (; end - x >= 6; x += 6) {
    const auto* v = reinterpret_cast<const VU*>(x);
    least[0] = v[0] < least[0] ? v[0] : least[0], most[0] = v[0] > most[0] ? v[0] : most[0];
    least[1] = v[1] < least[1] ? v[1] : least[1], most[1] = v[1] > most[1] ? v[1] : most[1];
    least[2] = v[2] < least[2] ? v[2] : least[2], most[2] = v[2] > most[2] ? v[2] : most[2];
  }
  for (int k = 0; k < 6; ++k) {
    low[k % 3] = std::min(low[k % 3], least[k / 2][k % 2]);
    high[k % 3] = std::max(high[k % 3], most[k / 2][k % 2]);
  }
  for (int c = 0; x + c < end; ++c) low[c] = std::min(low[c], x[c]), high[c] = std::max(high[c], x[c]);
}

void NeighbourList::build(int centres, int count, const double* x, const int* species, int kinds,
                          double reach, Search search, Threads& threads) {
  search_ = search, kinds_ = kinds, reach_ = reach;
  order_.resize(count), cell_.resize(count), kind_.resize(count + kOverrun);
  for (auto* v : {&x_, &y_, &z_}) v->resize(count + kOverrun);
  centre_.clear();
  if (found_.empty()) found_.resize(1);
  segment_.assign(static_cast<size_t>(centres) * (kinds + 1), 0), start_of_.assign(centres, 0);
  if (count == 0) return;

  double low[3], high[3];
  extent(count, x, low, high);
  // What rounding to single precision may do to a distance; a list may hold a few too many.
  slack_ = 5e-7 * (std::max({high[0] - low[0], high[1] - low[1], high[2] - low[2]}) + reach);

  // Rows of cells along x are read in one go. Larger cells where atoms are sparse, so that there are never
  // many more cells than atoms.
  int* cells = cells_;
  double stretch = 1.0;
  for (bool few = false; !few; stretch *= 1.3) {
    double total = 1;
    for (int c = 0; c < 3; ++c) {
      size_[c] = stretch * (reach + 2 * slack_) * (c == 0 ? 0.25 : 1.0);
      total *= std::floor((high[c] - low[c]) / size_[c]) + 1;
    }
    if ((few = total <= 8.0 * count + 64))
      for (int c = 0; c < 3; ++c) cells[c] = static_cast<int>((high[c] - low[c]) / size_[c]) + 1;
  }

  // Sorted by counting.
  double per[3];
  for (int c = 0; c < 3; ++c) per[c] = 1.0 / size_[c];
  const int parts = threads.parts(centres);
  threads.run(parts, [&](int n) {
    for (int i = share(count, n, parts), end = share(count, n + 1, parts); i < end; ++i) {
      int at[3];
      for (int c = 0; c < 3; ++c)
        at[c] = std::min(static_cast<int>((x[3 * i + c] - low[c]) * per[c]), cells[c] - 1);
      cell_[i] = (at[2] * cells[1] + at[1]) * cells[0] + at[0];
    }
  });
  start_.assign(static_cast<size_t>(cells[0]) * cells[1] * cells[2] + 1, 0);
  for (int i = 0; i < count; ++i) ++start_[cell_[i] + 1];
  for (size_t k = 1; k < start_.size(); ++k) start_[k] += start_[k - 1];
  next_.assign(start_.begin(), start_.end() - 1);
  for (int i = 0; i < count; ++i) order_[next_[cell_[i]]++] = i;
  // Written in any case, kept if it is a centre.
  centre_.resize(centres + 1);
  for (int p = 0, found = 0; p < count; ++p) {
    centre_[found] = p;
    found += order_[p] < centres;
  }
  centre_.pop_back();
  threads.run(parts, [&](int n) {
    for (int p = share(count, n, parts), end = share(count, n + 1, parts); p < end; ++p) {
      const int i = order_[p];
      kind_[p] = species[i];
      x_[p] = static_cast<float>(x[3 * i] - low[0]), y_[p] = static_cast<float>(x[3 * i + 1] - low[1]),
      z_[p] = static_cast<float>(x[3 * i + 2] - low[2]);
    }
  });

  share_ = std::max(1, (centres + parts - 1) / parts);
  if (found_.size() < static_cast<size_t>(parts)) found_.resize(parts);
  threads.run(parts, [&](int n) {
    find(std::min(centres, n * share_), std::min(centres, (n + 1) * share_), found_[n]);
  });
}

void NeighbourList::find(int first_centre, int last_centre, Found& found) {
  const int* cells = cells_;
  const Sorted sorted{x_.data(), y_.data(), z_.data(), kind_.data()};
  const float reach2 = static_cast<float>((reach_ + slack_) * (reach_ + slack_));
  // Cells along x that the reach, and the rounding of the last of them, goes beyond its own.
  const int steps = static_cast<int>((reach_ + 2 * slack_) / size_[0]) + 1;
  const auto room = [](std::vector<int>& v, size_t n) {
    if (v.size() < n) v.resize(2 * n + 1024);
  };
  size_t used = 0, candidates = 0;
  Range ranges[9];
  int count = 0;
  for (int k = first_centre, cell = -1; k < last_centre; ++k) {
    const int self = centre_[k];
    if (cell_[order_[self]] != cell) {
      // Rows of cells, the same for all atoms of a cell.
      cell = cell_[order_[self]];
      const int nx = cell % cells[0], ny = cell / cells[0] % cells[1], nz = cell / (cells[0] * cells[1]);
      const int x0 = std::max(nx - steps, 0), x1 = std::min(nx + steps, cells[0] - 1);
      count = 0, candidates = 0;
      for (int z = std::max(nz - 1, 0); z <= std::min(nz + 1, cells[2] - 1); ++z)
        for (int y = std::max(ny - 1, 0); y <= std::min(ny + 1, cells[1] - 1); ++y) {
          const int* row = start_.data() + (z * cells[1] + y) * cells[0];
          ranges[count] = {row[x0], row[x1 + 1]};
          candidates += ranges[count].last - ranges[count].first;
          ++count;
        }
      for (auto* v : {&found.marks, &found.hits, &found.hit_kinds}) room(*v, candidates + 9 * kOverrun);
    }
    room(found.list, used + candidates + kOverrun);
    start_of_[k] = used;
    int* list = found.list.data() + used;
    const int got =
        search_(sorted, ranges, count, self, reach2, kinds_, found.marks.data(), found.hits.data(),
                found.hit_kinds.data(), list, segment_.data() + static_cast<size_t>(k) * (kinds_ + 1));
    const int whole = (got + 7) / 8 * 8;
    std::fill(list + got, list + whole, 4 * places());
    used += whole;
  }
}

}  // namespace argyase
