#include "images.h"

#include <array>
#include <cmath>
#include <stdexcept>

namespace argyase {
namespace {

using Matrix = std::array<std::array<double, 3>, 3>;

Matrix inverse_of(const double* h) {
  const auto minor = [&](int r, int c) {
    const int r1 = (r + 1) % 3, r2 = (r + 2) % 3, c1 = (c + 1) % 3, c2 = (c + 2) % 3;
    return h[3 * r1 + c1] * h[3 * r2 + c2] - h[3 * r1 + c2] * h[3 * r2 + c1];
  };
  const double volume = h[0] * minor(0, 0) + h[1] * minor(0, 1) + h[2] * minor(0, 2);
  if (!(std::fabs(volume) > 1e-9)) throw std::invalid_argument("cell: has no volume");
  Matrix inverse;
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 3; ++c) inverse[r][c] = minor(c, r) / volume;
  return inverse;
}

}  // namespace

Images images_of(int64_t n, const double* x, const int32_t* types, const double* cell, const bool* periodic,
                 double cutoff) {
  const Matrix inverse = inverse_of(cell);
  double margin[3];  // the cutoff in units of the height of the cell
  for (int c = 0; c < 3; ++c)
    margin[c] = cutoff * std::sqrt(inverse[0][c] * inverse[0][c] + inverse[1][c] * inverse[1][c] +
                                   inverse[2][c] * inverse[2][c]);
  // Each atom is moved into the cell; the images of it that can be seen from there lie `first` ... `last`
  // cells away along each axis.
  struct Reach {
    int first[3], last[3];
  };
  std::vector<Reach> reach(n);
  Images out;
  out.x.assign(x, x + 3 * n);
  size_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    size_t seen = 1;
    for (int c = 0; c < 3; ++c) {
      int &first = reach[i].first[c] = 0, &last = reach[i].last[c] = 0;
      if (!periodic[c]) continue;
      double s = x[3 * i] * inverse[0][c] + x[3 * i + 1] * inverse[1][c] + x[3 * i + 2] * inverse[2][c];
      const double whole = std::floor(s);
      s -= whole;
      for (int d = 0; d < 3; ++d) out.x[3 * i + d] -= whole * cell[3 * c + d];
      first = -static_cast<int>(margin[c] + s), last = static_cast<int>(1 + margin[c] - s);
      seen *= last - first + 1;
    }
    count += seen;
  }
  out.x.resize(3 * count), out.origin.resize(count), out.species.resize(count);
  for (int64_t i = 0; i < n; ++i) out.origin[i] = static_cast<int>(i), out.species[i] = types[i];
  size_t next = n;
  for (int64_t i = 0; i < n; ++i) {
    const auto& [first, last] = reach[i];
    for (int a = first[0]; a <= last[0]; ++a)
      for (int b = first[1]; b <= last[1]; ++b)
        for (int c = first[2]; c <= last[2]; ++c) {
          if (a == 0 && b == 0 && c == 0) continue;
          for (int d = 0; d < 3; ++d)
            out.x[3 * next + d] = out.x[3 * i + d] + a * cell[d] + b * cell[3 + d] + c * cell[6 + d];
          out.origin[next] = static_cast<int>(i), out.species[next] = types[i];
          ++next;
        }
  }
  return out;
}

}  // namespace argyase
