#include "active_set.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace argyase {
namespace {

constexpr std::string_view kMagic = "argyase active set\n";
constexpr std::uint32_t kVersion = 1;
constexpr size_t kHeader = kMagic.size() + 3 * 4 + 2 * 8;
constexpr int kPanel = 4;  // columns of the inverse that are multiplied together

// FNV-1a, 64 bits, over little-endian bytes.
struct Hash {
  std::uint64_t value = 0xcbf29ce484222325u;
  void add(std::uint64_t bits) {
    for (int k = 0; k < 64; k += 8) value = (value ^ ((bits >> k) & 0xff)) * 0x100000001b3u;
  }
  void add(double number) { add(std::bit_cast<std::uint64_t>(number)); }
  void add(int number) { add(static_cast<std::uint64_t>(static_cast<std::int64_t>(number))); }
  template <class Items>
  void add_all(const Items& items) {
    add(static_cast<std::uint64_t>(items.size()));
    for (const auto& item : items) add(item);
  }
  void add_quadruples(const std::vector<std::array<int, 4>>& items) {
    add(static_cast<std::uint64_t>(items.size()));
    for (const auto& four : items)
      for (const int number : four) add(number);
  }
};

std::uint64_t hash_of(std::uint64_t size, std::uint64_t kinds, std::uint64_t mark,
                      const std::vector<double>& numbers) {
  Hash hash;
  for (const std::uint64_t number : {size, kinds, mark}) hash.add(number);
  hash.add_all(numbers);
  return hash.value;
}

void put(std::string& out, std::uint64_t value, int bytes) {
  for (int k = 0; k < bytes; ++k) out += static_cast<char>(value >> (8 * k) & 0xff);
}

std::uint64_t take(std::string_view& in, int bytes) {
  std::uint64_t value = 0;
  for (int k = 0; k < bytes; ++k)
    value |= static_cast<std::uint64_t>(static_cast<unsigned char>(in[k])) << (8 * k);
  in.remove_prefix(bytes);
  return value;
}

// Gauss-Jordan with the largest pivot of each column.
std::vector<double> inverse_of(std::vector<double> a, int n) {
  const auto fail = [] {
    throw ActiveSetError(
        "the active set is singular: its atoms do not span the basis functions; make it again");
  };
  const size_t m = static_cast<size_t>(n);
  const std::vector<double> original = a;
  std::vector<double> inverse(m * m, 0.0);
  for (size_t k = 0; k < m; ++k) inverse[k * m + k] = 1.0;
  for (size_t column = 0; column < m; ++column) {
    size_t pivot = column;
    for (size_t row = column + 1; row < m; ++row)
      if (std::fabs(a[row * m + column]) > std::fabs(a[pivot * m + column])) pivot = row;
    const double factor = 1.0 / a[pivot * m + column];
    if (!std::isfinite(factor)) fail();
    if (pivot != column)
      for (auto* v : {&a, &inverse})
        std::swap_ranges(v->begin() + static_cast<long>(pivot * m),
                         v->begin() + static_cast<long>((pivot + 1) * m),
                         v->begin() + static_cast<long>(column * m));
    for (auto* v : {&a, &inverse})
      for (size_t k = 0; k < m; ++k) (*v)[column * m + k] *= factor;
    for (size_t row = 0; row < m; ++row) {
      const double times = a[row * m + column];
      if (row == column || times == 0) continue;
      for (auto* v : {&a, &inverse}) {
        double* to = v->data() + row * m;
        const double* from = v->data() + column * m;
        for (size_t k = 0; k < m; ++k) to[k] -= times * from[k];
      }
    }
  }
  // A nearly singular matrix has pivots, too: A (A^-1 v) must be v.
  std::vector<double> v(m), x(m, 0.0);
  for (size_t k = 0; k < m; ++k) v[k] = (k * 7 % 3 == 0) ? -1.0 : 1.0;
  for (size_t row = 0; row < m; ++row)
    for (size_t k = 0; k < m; ++k) x[row] += inverse[row * m + k] * v[k];
  for (size_t row = 0; row < m; ++row) {
    double back = 0;
    for (size_t k = 0; k < m; ++k) back += original[row * m + k] * x[k];
    if (!(std::fabs(back - v[row]) < 1e-6)) fail();
  }
  return inverse;
}

// b A^-1, a panel of columns at a time, whose sums stay in registers. Vectors of the width of the instruction
// set: GCC takes wider ones apart, number by number.
template <int Bytes>
inline __attribute__((always_inline)) void largest(const double* inverse, int size, int kinds,
                                                   const int* species, const double* basis, double* out) {
  typedef double V __attribute__((vector_size(Bytes)));
  typedef double VU __attribute__((vector_size(Bytes), aligned(8), may_alias));
  constexpr int W = Bytes / sizeof(double), parts = kBatch / W;
  double best[kBatch] = {}, broken[kBatch] = {};
  for (int column = 0; column < size; column += kPanel, inverse += static_cast<size_t>(size) * kPanel) {
    V sum[kPanel][parts];
    for (int c = 0; c < kPanel; ++c)
      for (int l = 0; l < kBatch; ++l) sum[c][l / W][l % W] = inverse[species[l] * kPanel + c];
    const double* row = inverse + kinds * kPanel;
    for (int k = 0; k < size - kinds; ++k, row += kPanel)
      for (int part = 0; part < parts; ++part) {
        const V b = *reinterpret_cast<const VU*>(basis + k * kBatch + part * W);
        for (int c = 0; c < kPanel; ++c) sum[c][part] += row[c] * b;
      }
    for (int c = 0; c < kPanel; ++c)
      for (int l = 0; l < kBatch; ++l) {
        const double v = std::fabs(sum[c][l / W][l % W]);
        best[l] = best[l] < v ? v : best[l];
        broken[l] += 0 * v;
      }
  }
  for (int l = 0; l < kBatch; ++l)
    out[l] = broken[l] == 0 ? best[l] : std::numeric_limits<double>::infinity();
}

using Largest = void (*)(const double*, int, int, const int*, const double*, double*);
void largest_baseline(const double* inverse, int size, int kinds, const int* species, const double* basis,
                      double* out) {
  largest<16>(inverse, size, kinds, species, basis, out);
}
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void largest_avx2(const double* inverse, int size, int kinds,
                                                      const int* species, const double* basis, double* out) {
  largest<32>(inverse, size, kinds, species, basis, out);
}
#endif

Largest fastest() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return largest_avx2;
#endif
  return largest_baseline;
}

}  // namespace

std::uint64_t fingerprint(const Potential& p) {
  Hash hash;
  for (const int number : {p.species_count, p.radial_basis_size, p.radial_funcs_count, p.alpha_moments_count})
    hash.add(number);
  for (const double number : {p.scaling, p.min_dist, p.max_dist}) hash.add(number);
  hash.add_all(p.radial_coeffs);
  hash.add_quadruples(p.index_basic);
  hash.add_quadruples(p.index_times);
  hash.add_all(p.moment_mapping);
  return hash.value;
}

ActiveSet::ActiveSet(std::uint64_t fingerprint, int species_count, int size, std::vector<double> rows)
    : fingerprint_(fingerprint), kinds_(species_count), size_(size), rows_(std::move(rows)) {
  const std::vector<double> inverse = inverse_of(rows_, size);
  const size_t m = static_cast<size_t>(size), panels = (m + kPanel - 1) / kPanel;
  inverse_.assign(panels * m * kPanel, 0.0);
  for (size_t row = 0; row < m; ++row)
    for (size_t column = 0; column < m; ++column)
      inverse_[(column / kPanel * m + row) * kPanel + column % kPanel] = inverse[row * m + column];
}

ActiveSet ActiveSet::parse(std::string_view bytes) {
  if (!bytes.starts_with(kMagic)) throw ActiveSetError("not an active set: it does not begin with its line");
  if (bytes.size() < kHeader) throw ActiveSetError("cut within the header");
  bytes.remove_prefix(kMagic.size());
  const auto version = static_cast<std::uint32_t>(take(bytes, 4));
  if (version != kVersion)
    throw ActiveSetError("version " + std::to_string(version) + ": this reader knows " +
                         std::to_string(kVersion));
  const std::uint64_t size = take(bytes, 4), kinds = take(bytes, 4);
  const std::uint64_t mark = take(bytes, 8), hash = take(bytes, 8);
  // Both below 2^35: nothing overflows, and nothing is sized by a number that the file does not fill.
  if (size < 1 || size > 65536)
    throw ActiveSetError("size " + std::to_string(size) + ": allowed are 1 to 65536");
  if (kinds < 1 || kinds > size)
    throw ActiveSetError(std::to_string(kinds) + " species in a set of " + std::to_string(size) + " atoms");
  if (bytes.size() != 8 * size * size)
    throw ActiveSetError("size " + std::to_string(size) + " needs " + std::to_string(8 * size * size) +
                         " bytes of numbers, there are " + std::to_string(bytes.size()));
  std::vector<double> rows(size * size);
  for (double& number : rows) number = std::bit_cast<double>(take(bytes, 8));
  if (hash_of(size, kinds, mark, rows) != hash)
    throw ActiveSetError("damaged: the content does not fit its hash");
  for (const double number : rows)
    if (!std::isfinite(number)) throw ActiveSetError("a number is not finite");
  return ActiveSet(mark, static_cast<int>(kinds), static_cast<int>(size), std::move(rows));
}

std::string ActiveSet::format() const {
  std::string out(kMagic);
  put(out, kVersion, 4);
  put(out, static_cast<std::uint64_t>(size_), 4);
  put(out, static_cast<std::uint64_t>(kinds_), 4);
  put(out, fingerprint_, 8);
  put(out, hash_of(size_, kinds_, fingerprint_, rows_), 8);
  for (const double number : rows_) put(out, std::bit_cast<std::uint64_t>(number), 8);
  return out;
}

void ActiveSet::check(const Potential& p) const {
  const size_t want = static_cast<size_t>(p.species_count) + p.moment_mapping.size();
  if (static_cast<size_t>(size_) != want || kinds_ != p.species_count)
    throw ActiveSetError("of " + std::to_string(size_) + " atoms: the potential has " + std::to_string(want) +
                         " linear coefficients");
  if (fingerprint_ != argyase::fingerprint(p))
    throw ActiveSetError(
        "made for another potential: its radial functions or moments differ; make it again from the labels");
}

void ActiveSet::grades(int n, const int* species, const double* basis, double* out) const {
  static const Largest run = fastest();
  int kind[kBatch] = {};
  std::copy(species, species + n, kind);
  double found[kBatch];
  run(inverse_.data(), size_, kinds_, kind, basis, found);
  std::copy(found, found + n, out);
}

}  // namespace argyase
