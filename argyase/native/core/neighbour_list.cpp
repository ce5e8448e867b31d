#include "neighbour_list.h"

#include <algorithm>
#include <cmath>

namespace argyase {

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
  for (int c = 0; c < 3; ++c) low[c] = high[c] = x[c];
  for (int i = 1; i < count; ++i)
    for (int c = 0; c < 3; ++c) {
      low[c] = std::min(low[c], x[3 * i + c]);
      high[c] = std::max(high[c], x[3 * i + c]);
    }
  // What rounding to single precision may do to a distance; a list may hold a few too many.
  slack_ = 1e-6 * (std::max({high[0] - low[0], high[1] - low[1], high[2] - low[2]}) + reach);

  // Rows of cells along x are read in one go. Larger cells where atoms are sparse, so that there are never many more
  // cells than atoms.
  int* cells = cells_;
  double stretch = 1.0;
  for (bool few = false; !few; stretch *= 1.3) {
    double total = 1;
    for (int c = 0; c < 3; ++c) {
      size_[c] = stretch * reach * (c == 0 ? 0.25 : 0.5);
      total *= std::floor((high[c] - low[c]) / size_[c]) + 1;
    }
    if ((few = total <= 8.0 * count + 64))
      for (int c = 0; c < 3; ++c) cells[c] = static_cast<int>((high[c] - low[c]) / size_[c]) + 1;
  }

  // Sorted by counting.
  const int all = cells[0] * cells[1] * cells[2];
  start_.assign(static_cast<size_t>(all) + 1, 0);
  for (int i = 0; i < count; ++i) {
    int at[3];
    for (int c = 0; c < 3; ++c)
      at[c] = std::min(static_cast<int>((x[3 * i + c] - low[c]) / size_[c]), cells[c] - 1);
    cell_[i] = (at[2] * cells[1] + at[1]) * cells[0] + at[0];
    ++start_[cell_[i] + 1];
  }
  for (size_t k = 1; k < start_.size(); ++k) start_[k] += start_[k - 1];
  std::vector<int> next(start_.begin(), start_.end() - 1);
  for (int i = 0; i < count; ++i) {
    const int p = next[cell_[i]]++;
    order_[p] = i, kind_[p] = species[i];
    x_[p] = static_cast<float>(x[3 * i] - low[0]), y_[p] = static_cast<float>(x[3 * i + 1] - low[1]),
    z_[p] = static_cast<float>(x[3 * i + 2] - low[2]);
  }
  for (int p = 0; p < count; ++p)
    if (order_[p] < centres) centre_.push_back(p);

  const int parts = std::clamp(centres / 100, 1, threads.count());
  share_ = std::max(1, (centres + parts - 1) / parts);
  if (found_.size() < static_cast<size_t>(parts)) found_.resize(parts);
  const auto find_part = [&](int n) {
    if (n < parts) find(std::min(centres, n * share_), std::min(centres, (n + 1) * share_), found_[n]);
  };
  if (parts == 1)
    find_part(0);
  else
    threads.run(find_part);
}

void NeighbourList::find(int first_centre, int last_centre, Found& found) {
  const int* cells = cells_;
  const Sorted sorted{x_.data(), y_.data(), z_.data(), kind_.data()};
  const float slack = static_cast<float>(slack_), reach = static_cast<float>(reach_) + 2 * slack,
              reach2 = reach * reach;
  float size[3], per[3];
  for (int c = 0; c < 3; ++c) size[c] = static_cast<float>(size_[c]), per[c] = static_cast<float>(1 / size_[c]);
  size_t used = 0;
  for (int k = first_centre; k < last_centre; ++k) {
    const int self = centre_[k];
    const float at[3] = {x_[self], y_[self], z_[self]};
    const auto cell = [&](float position, int c) {
      return std::clamp(static_cast<int>(position * per[c]), 0, cells[c] - 1);
    };
    // Square of the distance of the atom from the nearest point of the cells number n along an axis.
    const auto gap2 = [&](int n, int c) {
      const float below = static_cast<float>(n) * size[c] - slack - at[c],
                  above = at[c] - static_cast<float>(n + 1) * size[c] - slack, gap = std::max({0.0F, below, above});
      return gap * gap;
    };
    const int y0 = cell(at[1] - reach, 1), y1 = cell(at[1] + reach, 1), z1 = cell(at[2] + reach, 2);
    found.gaps.clear();
    for (int ny = y0; ny <= y1; ++ny) found.gaps.push_back(gap2(ny, 1));
    found.ranges.clear();
    size_t candidates = 0;
    for (int nz = cell(at[2] - reach, 2); nz <= z1; ++nz) {
      const float left_z = reach * reach - gap2(nz, 2);
      for (int ny = y0; ny <= y1; ++ny) {
        const float left2 = left_z - found.gaps[ny - y0];
        if (left2 < 0) continue;
        const float left = std::sqrt(left2) + slack;
        const int* row = start_.data() + (nz * cells[1] + ny) * cells[0];
        const Range range{row[cell(at[0] - left, 0)], row[cell(at[0] + left, 0) + 1]};
        found.ranges.push_back(range);
        candidates += range.last - range.first;
      }
    }
    const auto room = [](std::vector<int>& v, size_t n) {
      if (v.size() < n) v.resize(2 * n + 1024);
    };
    room(found.hits, candidates + kOverrun), room(found.hit_kinds, candidates + kOverrun);
    room(found.list, used + candidates + kOverrun);
    start_of_[k] = used;
    used += search_(sorted, found.ranges.data(), static_cast<int>(found.ranges.size()), self, reach2, kinds_,
                    found.hits.data(), found.hit_kinds.data(), found.list.data() + used,
                    segment_.data() + static_cast<size_t>(k) * (kinds_ + 1));
  }
  // Whoever reads the list by vectors reads on; what is there must be places, too.
  if (found.list.size() < used + kOverrun) found.list.resize(used + kOverrun);
  std::fill_n(found.list.begin() + static_cast<long>(used), kOverrun, 0);
}

}  // namespace argyase
