#include "neighbour_list.h"

#include <algorithm>
#include <cmath>

namespace argyase {

void NeighbourList::build(int centres, int count, const double* x, const int* species, int kinds,
                          double reach, Near near, Threads& threads) {
  reach2_ = reach * reach, near_ = near;
  kinds_ = kinds;
  order_.resize(count), cell_.resize(count);
  for (auto* v : {&x_, &y_, &z_}) v->resize(count + kOverrun);
  centre_.clear();
  if (neighbours_.empty()) neighbours_.resize(1);
  segment_.assign(static_cast<size_t>(centres) * (kinds + 1), 0);
  if (count == 0) return;

  double low[3], high[3], size[3];
  for (int c = 0; c < 3; ++c) low[c] = high[c] = x[c];
  for (int i = 1; i < count; ++i)
    for (int c = 0; c < 3; ++c) {
      low[c] = std::min(low[c], x[3 * i + c]);
      high[c] = std::max(high[c], x[3 * i + c]);
    }
  // Rows of cells along x are read in one go: they are thick, as few as can be, and finely cut. Larger cells
  // where atoms are sparse, so that there are never many more cells than atoms.
  int *cells = cells_, *steps = steps_;
  double stretch = 1.0;
  for (bool few = false; !few; stretch *= 1.3) {
    double total = 1;
    for (int c = 0; c < 3; ++c) {
      size[c] = stretch * reach * (c == 0 ? 0.25 : 1.0);
      total *= std::floor((high[c] - low[c]) / size[c]) + 1;
    }
    if ((few = total <= 8.0 * count + 64))
      for (int c = 0; c < 3; ++c) {
        cells[c] = static_cast<int>((high[c] - low[c]) / size[c]) + 1;
        steps[c] = static_cast<int>(std::ceil(reach / size[c]));
      }
  }

  // Sorted by counting: first by cell for the order of the centres, then by species and cell for the places.
  const int all = cells[0] * cells[1] * cells[2];
  for (int i = 0; i < count; ++i) {
    int at[3];
    for (int c = 0; c < 3; ++c)
      at[c] = std::min(static_cast<int>((x[3 * i + c] - low[c]) / size[c]), cells[c] - 1);
    cell_[i] = (at[2] * cells[1] + at[1]) * cells[0] + at[0];
  }
  start_.assign(static_cast<size_t>(kinds) * all + 1, 0);
  for (int i = 0; i < count; ++i) ++start_[static_cast<size_t>(species[i]) * all + cell_[i] + 1];
  for (size_t k = 1; k < start_.size(); ++k) start_[k] += start_[k - 1];
  std::vector<int> next(start_.begin(), start_.end() - 1), place(count);
  for (int i = 0; i < count; ++i) {
    const int p = next[static_cast<size_t>(species[i]) * all + cell_[i]]++;
    place[i] = p, order_[p] = i;
    x_[p] = x[3 * i], y_[p] = x[3 * i + 1], z_[p] = x[3 * i + 2];
  }
  next.assign(all + 1, 0);
  for (int i = 0; i < centres; ++i) ++next[cell_[i] + 1];
  for (int k = 1; k <= all; ++k) next[k] += next[k - 1];
  centre_.resize(centres);
  for (int i = 0; i < centres; ++i) centre_[next[cell_[i]]++] = place[i];

  const int parts = std::clamp(centres / 100, 1, threads.count());
  share_ = std::max(1, (centres + parts - 1) / parts);
  if (neighbours_.size() < static_cast<size_t>(parts)) neighbours_.resize(parts);
  const auto find_part = [&](int n) {
    if (n < parts) find(std::min(centres, n * share_), std::min(centres, (n + 1) * share_), neighbours_[n]);
  };
  if (parts == 1)
    find_part(0);
  else
    threads.run(find_part);
}

void NeighbourList::find(int first_centre, int last_centre, std::vector<int>& neighbours) {
  const int *cells = cells_, *steps = steps_, all = cells[0] * cells[1] * cells[2], kinds = kinds_;
  size_t used = 0;
  for (int k = first_centre; k < last_centre; ++k) {
    const int self = centre_[k], own = cell_[order_[self]];
    const int cx = own % cells[0], cy = own / cells[0] % cells[1], cz = own / (cells[0] * cells[1]);
    const int x0 = std::max(cx - steps[0], 0), x1 = std::min(cx + steps[0], cells[0] - 1);
    const int y0 = std::max(cy - steps[1], 0), y1 = std::min(cy + steps[1], cells[1] - 1);
    const int z0 = std::max(cz - steps[2], 0), z1 = std::min(cz + steps[2], cells[2] - 1);
    int* segment = segment_.data() + static_cast<size_t>(k) * (kinds + 1);
    segment[0] = static_cast<int>(used);
    for (int s = 0; s < kinds; ++s) {
      const int* start = start_.data() + static_cast<size_t>(s) * all;
      for (int cell_z = z0; cell_z <= z1; ++cell_z)
        for (int cell_y = y0; cell_y <= y1; ++cell_y) {
          // Cells along x follow each other in memory.
          const int row = (cell_z * cells[1] + cell_y) * cells[0];
          const int first = start[row + x0], last = start[row + x1 + 1];
          const size_t room = used + (last - first) + kOverrun;
          if (neighbours.size() < room) neighbours.resize(2 * room + 1024);
          used +=
              near_(x_.data(), y_.data(), z_.data(), first, last, self, reach2_, neighbours.data() + used);
        }
      segment[s + 1] = static_cast<int>(used);
    }
  }
  // Whoever reads the list by vectors reads on; what is there must be places, too.
  neighbours.resize(used);
  neighbours.resize(used + kOverrun, 0);
}

}  // namespace argyase
