#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <set>

#include "mtp_potential.h"

namespace argyase {
namespace {

constexpr std::string_view kSpace = " \t\r\v\f";

std::string_view trim(std::string_view s) {
  const auto first = s.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return s.substr(first, s.find_last_not_of(kSpace) - first + 1);
}

std::string quoted(std::string_view s) {
  std::string shown;
  for (const char c : s.substr(0, 40)) shown += (c >= 32 && c < 127) ? c : '?';
  return "'" + shown + (s.size() > 40 ? "..." : "") + "'";
}

class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  int line() const { return line_; }
  [[noreturn]] void fail(const std::string& reason) const { throw ParseError(line_, reason); }

  // The next line that is not blank; false at the end of the text.
  bool next(std::string_view& out) {
    while (!rest_.empty()) {
      const auto end = rest_.find('\n');
      out = trim(rest_.substr(0, end));
      rest_ = end == std::string_view::npos ? std::string_view{} : rest_.substr(end + 1);
      ++line_;
      if (!out.empty()) return true;
    }
    return false;
  }

  int integer(std::string_view s, const char* what) const {
    s = trim(s);
    int value = 0;
    const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), value);
    if (error != std::errc() || end != s.data() + s.size())
      fail(std::string(what) + ": expected a whole number, got " + quoted(s));
    return value;
  }

  int count(std::string_view s, const char* what, int low, int high) const {
    const int value = integer(s, what);
    if (value < low || value > high)
      fail(std::string(what) + " = " + std::to_string(value) + ": allowed are " + std::to_string(low) +
           " to " + std::to_string(high));
    return value;
  }

  double real(std::string_view s, const char* what) const {
    s = trim(s);
    if (!s.empty() && s.front() == '+') s.remove_prefix(1);
    double value = 0;
    const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), value);
    if (error != std::errc() || end != s.data() + s.size())
      fail(std::string(what) + ": expected a number, got " + quoted(s));
    if (!std::isfinite(value)) fail(std::string(what) + ": " + quoted(s) + " is not finite");
    return value;
  }

  // {1, 2, 3}
  template <class T, class Convert>
  std::vector<T> list(std::string_view s, const char* what, const Convert& convert) const {
    s = trim(s);
    if (s.size() < 2 || s.front() != '{' || s.back() != '}')
      fail(std::string(what) + ": expected a list in braces, got " + quoted(s));
    s = trim(s.substr(1, s.size() - 2));
    std::vector<T> values;
    while (!s.empty()) {
      const auto comma = s.find(',');
      values.push_back(convert(s.substr(0, comma)));
      if (comma == std::string_view::npos) break;
      s = s.substr(comma + 1);
      if (trim(s).empty()) fail(std::string(what) + ": the list ends in a comma");
    }
    return values;
  }

  std::vector<double> reals(std::string_view s, const char* what) const {
    return list<double>(s, what, [&](std::string_view v) { return real(v, what); });
  }
  std::vector<int> integers(std::string_view s, const char* what) const {
    return list<int>(s, what, [&](std::string_view v) { return integer(v, what); });
  }

  // {{0, 0, 0, 0}, {0, 1, 0, 0}}
  std::vector<std::array<int, 4>> quadruples(std::string_view s, const char* what) const {
    s = trim(s);
    if (s.size() < 2 || s.front() != '{' || s.back() != '}')
      fail(std::string(what) + ": expected a list in braces, got " + quoted(s));
    s = trim(s.substr(1, s.size() - 2));
    std::vector<std::array<int, 4>> values;
    while (!s.empty()) {
      const auto close = s.find('}');
      if (close == std::string_view::npos) fail(std::string(what) + ": a brace is not closed");
      const auto four = integers(s.substr(0, close + 1), what);
      if (four.size() != 4) fail(std::string(what) + ": expected four numbers in each inner list");
      values.push_back({four[0], four[1], four[2], four[3]});
      s = trim(s.substr(close + 1));
      if (s.empty()) break;
      if (s.front() != ',')
        fail(std::string(what) + ": expected a comma between inner lists, got " + quoted(s));
      s = trim(s.substr(1));
      if (s.empty()) fail(std::string(what) + ": the list ends in a comma");
    }
    return values;
  }

 private:
  std::string_view rest_;
  int line_ = 0;
};

// The blocks of coefficients, in the order of the file, and the numbers of its species in that order. Nothing
// follows the heading in what MLIP saves of an untrained template: false.
bool read_radial_coeffs(Reader& in, Potential& p, const std::set<std::string, std::less<>>& seen) {
  std::string_view line;
  Reader ahead = in;
  if (ahead.next(line) && line.find('=') != std::string_view::npos) return false;
  for (const char* key : {"species_count", "radial_basis_size"})
    if (!seen.count(key)) in.fail(std::string("radial_coeffs come before ") + key);
  auto& types = p.species_types;
  const int n = p.species_count;
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) {
      if (!in.next(line)) in.fail("the file ends inside radial_coeffs");
      const auto expected = [&](const std::string& pair) {
        in.fail("radial_coeffs: expected the pair " + pair + " (species_count is " + std::to_string(n) +
                "), got " + quoted(line));
      };
      const auto dash = line.find('-');
      if (dash == std::string_view::npos)
        expected("of species " + std::to_string(i) + "-" + std::to_string(j));
      const int a = in.count(line.substr(0, dash), "radial_coeffs species", 0, 999);
      const int b = in.count(line.substr(dash + 1), "radial_coeffs species", 0, 999);
      // The first row names the species; MLIP and motep go by the place of a block alone.
      if (i == 0) {
        const bool known = std::find(types.begin(), types.end(), b) != types.end();
        if (a != (j == 0 ? b : types[0]))
          expected(j == 0 ? "of a species with itself" : std::to_string(types[0]) + "- with another species");
        if (known) in.fail("radial_coeffs: the pair " + quoted(line) + " occurs twice");
        types.push_back(b);
      } else if (a != types[i] || b != types[j]) {
        expected(std::to_string(types[i]) + "-" + std::to_string(types[j]));
      }
      // motep 0.2 writes radial_funcs_count behind the coefficients.
      if (!seen.count("radial_funcs_count") && i + j == 0)
        for (ahead = in; ahead.next(line) && line.front() == '{' && p.radial_funcs_count < 100;)
          ++p.radial_funcs_count;
      for (int mu = 0; mu < p.radial_funcs_count; ++mu) {
        if (!in.next(line)) in.fail("the file ends inside radial_coeffs");
        const auto row = in.reals(line, "radial_coeffs");
        if (row.size() != static_cast<size_t>(p.radial_basis_size))
          in.fail("radial_coeffs: expected " + std::to_string(p.radial_basis_size) +
                  " numbers (radial_basis_size), got " + std::to_string(row.size()));
        p.radial_coeffs.insert(p.radial_coeffs.end(), row.begin(), row.end());
      }
    }
  if (p.radial_coeffs.empty()) in.fail("radial_coeffs: no coefficients below the pairs of species");
  return true;
}

// MLIP-3 numbers species by the types of its training set, in the order in which they first occurred there.
void sort_species(Potential& p) {
  const int n = p.species_count;
  std::vector<int> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return p.species_types[a] < p.species_types[b]; });
  if (std::is_sorted(order.begin(), order.end())) return;
  const Potential was = p;
  const size_t block = static_cast<size_t>(p.radial_funcs_count) * p.radial_basis_size;
  for (int i = 0; i < n; ++i) {
    p.species_types[i] = was.species_types[order[i]];
    if (!was.species_coeffs.empty()) p.species_coeffs[i] = was.species_coeffs[order[i]];
    for (int j = 0; j < n; ++j) {
      const auto from = was.radial_coeffs.begin() + (static_cast<size_t>(order[i]) * n + order[j]) * block;
      std::copy(from, from + block, p.radial_coeffs.begin() + (static_cast<size_t>(i) * n + j) * block);
    }
  }
}

// Other spellings: of MLIP for any basis, and of motep.
std::string canonical(std::string_view key) {
  if (key == "min" || key == "min_val") return "min_dist";
  if (key == "max" || key == "max_val") return "max_dist";
  if (key == "size" || key == "basis_size") return "radial_basis_size";
  return std::string(key);
}

void check_basis(const Reader& in, std::string_view type) {
  if (type == "RBChebyshev") return;
  for (const char* other :
       {"RBChebyshev_repuls", "BChebyshev", "BChebyshev_repuls", "RBShapeev", "RBTaylor", "LRBSChebyshev"})
    if (type == other)
      in.fail("radial_basis_type " + quoted(type) +
              ": a basis of MLIP that argyase does not evaluate; it knows RBChebyshev");
  in.fail("radial_basis_type " + quoted(type) + ": this reader knows RBChebyshev");
}

// Level 28 has up to 10. A kernel has room for all monomials up to the highest power, so that a short text
// with a large one would take much memory.
constexpr int kMostPowers = 24;

void check_indices(const Reader& in, const Potential& p) {
  const int moments = p.alpha_moments_count;
  const int basic = static_cast<int>(p.index_basic.size());
  if (basic > moments) in.fail("more basic moments than alpha_moments_count");
  for (const auto& [mu, nx, ny, nz] : p.index_basic) {
    if (mu < 0 || mu >= p.radial_funcs_count)
      in.fail("alpha_index_basic: radial function " + std::to_string(mu) + " is not one of the " +
              std::to_string(p.radial_funcs_count) + " of radial_funcs_count");
    if (nx < 0 || ny < 0 || nz < 0 || nx > kMostPowers || ny > kMostPowers || nz > kMostPowers ||
        nx + ny + nz > kMostPowers)
      in.fail("alpha_index_basic: powers of a moment must be 0 or more, and " + std::to_string(kMostPowers) +
              " or less in sum");
  }
  std::vector<bool> written(moments, false);
  for (int k = 0; k < basic; ++k) written[k] = true;
  std::vector<bool> read(moments, false);
  for (const auto& [a, b, factor, c] : p.index_times) {
    for (const int m : {a, b, c})
      if (m < 0 || m >= moments)
        in.fail("alpha_index_times: moment " + std::to_string(m) + " is not one of the " +
                std::to_string(moments) + " of alpha_moments_count");
    if (c < basic) in.fail("alpha_index_times: writes to the basic moment " + std::to_string(c));
    if (read[c] || c == a || c == b)
      in.fail("alpha_index_times: moment " + std::to_string(c) + " is written after it was read");
    for (const int m : {a, b}) {
      if (!written[m])
        in.fail("alpha_index_times: moment " + std::to_string(m) + " is read before it is computed");
      read[m] = true;
    }
    written[c] = true;
  }
  for (const int m : p.moment_mapping) {
    if (m < 0 || m >= moments)
      in.fail("alpha_moment_mapping: moment " + std::to_string(m) + " is not one of the " +
              std::to_string(moments) + " of alpha_moments_count");
    if (!written[m]) in.fail("alpha_moment_mapping: moment " + std::to_string(m) + " is never computed");
  }
}

void same_count(const Reader& in, const char* key, size_t got, const char* from, long long want) {
  if (want < 0 || got != static_cast<size_t>(want))
    in.fail(std::string(key) + ": expected " + std::to_string(want) + " entries (" + from + "), got " +
            std::to_string(got));
}

}  // namespace

Potential parse_mtp(std::string_view text, bool untrained) {
  Reader in(text);
  Potential p;
  std::string_view line;
  if (!in.next(line) || line != "MTP") in.fail("the first line must be MTP, got " + quoted(line));

  constexpr int kMany = 1 << 20;
  int basic_count = -1, times_count = -1, scalar_count = -1;
  std::set<std::string, std::less<>> seen;
  while (in.next(line)) {
    if (line.front() == '#') break;  // e.g. #MVS_v1.1: the active set of MLIP, not part of the potential
    const auto equals = line.find('=');
    std::string key = canonical(trim(line.substr(0, equals)));
    if (equals == std::string_view::npos && key != "radial_coeffs")
      in.fail("expected 'key = value', got " + quoted(line));
    const auto value = equals == std::string_view::npos ? std::string_view{} : trim(line.substr(equals + 1));
    if (key == "magnetic_basis_type" || key == "min_mag" || key == "max_mag" || key == "mag_basis_size")
      in.fail(key + ": the potential depends on magnetic moments; argyase evaluates only those that do not");
    // MLIP may write one factor for the potential and one for its radial basis.
    if (key == "scaling" && seen.count("radial_basis_type")) key = "scaling of the radial basis";
    if (!seen.insert(key).second) in.fail(key + " occurs twice");

    if (key == "version") {
      p.version = value;
      if (value != "1.1.0") in.fail("version " + quoted(value) + ": this reader knows 1.1.0");
    } else if (key == "potential_name") {
      p.potential_name = value;
    } else if (key == "potential_tag") {
      p.potential_tag = value;
    } else if (key == "scaling" || key == "scaling of the radial basis") {
      p.scaling *= in.real(value, "scaling");
      if (!std::isfinite(p.scaling)) in.fail("scaling: the product of both factors is not finite");
    } else if (key == "species_count") {
      p.species_count = in.count(value, "species_count", 1, 200);
    } else if (key == "radial_basis_type") {
      p.radial_basis_type = value;
      check_basis(in, value);
    } else if (key == "min_dist") {
      p.min_dist = in.real(value, "min_dist");
    } else if (key == "max_dist") {
      p.max_dist = in.real(value, "max_dist");
    } else if (key == "radial_basis_size") {
      p.radial_basis_size = in.count(value, "radial_basis_size", 1, 1000);
    } else if (key == "radial_funcs_count") {
      const int count = in.count(value, "radial_funcs_count", 1, 100);
      if (seen.count("radial_coeffs") && count != p.radial_funcs_count)
        in.fail("radial_funcs_count = " + std::to_string(count) + ": each pair of radial_coeffs has " +
                std::to_string(p.radial_funcs_count));
      p.radial_funcs_count = count;
    } else if (key == "radial_coeffs") {
      if (!read_radial_coeffs(in, p, seen)) seen.erase("radial_coeffs");
    } else if (key == "alpha_moments_count") {
      p.alpha_moments_count = in.count(value, "alpha_moments_count", 1, kMany);
    } else if (key == "alpha_index_basic_count") {
      basic_count = in.count(value, "alpha_index_basic_count", 1, kMany);
    } else if (key == "alpha_index_basic") {
      p.index_basic = in.quadruples(value, "alpha_index_basic");
      same_count(in, "alpha_index_basic", p.index_basic.size(), "alpha_index_basic_count", basic_count);
    } else if (key == "alpha_index_times_count") {
      times_count = in.count(value, "alpha_index_times_count", 0, kMany);
    } else if (key == "alpha_index_times") {
      p.index_times = in.quadruples(value, "alpha_index_times");
      same_count(in, "alpha_index_times", p.index_times.size(), "alpha_index_times_count", times_count);
    } else if (key == "alpha_scalar_moments") {
      scalar_count = in.count(value, "alpha_scalar_moments", 1, kMany);
    } else if (key == "alpha_moment_mapping") {
      p.moment_mapping = in.integers(value, "alpha_moment_mapping");
      same_count(in, "alpha_moment_mapping", p.moment_mapping.size(), "alpha_scalar_moments", scalar_count);
    } else if (key == "species_coeffs") {
      p.species_coeffs = in.reals(value, "species_coeffs");
      same_count(in, "species_coeffs", p.species_coeffs.size(), "species_count", p.species_count);
    } else if (key == "moment_coeffs") {
      p.moment_coeffs = in.reals(value, "moment_coeffs");
      same_count(in, "moment_coeffs", p.moment_coeffs.size(), "alpha_scalar_moments", scalar_count);
      // Whatever follows (MLIP appends binary data of its active set) is not part of the potential.
      break;
    } else {
      in.fail("unknown key " + quoted(key));
    }
  }
  for (const char* key :
       {"radial_basis_type", "min_dist", "max_dist", "radial_basis_size", "radial_funcs_count",
        "alpha_moments_count", "alpha_index_basic", "alpha_index_times", "alpha_moment_mapping"})
    if (!seen.count(key)) in.fail(std::string("the file ends without ") + key + "; is it cut?");
  if (!untrained)
    for (const char* key : {"species_count", "radial_coeffs", "species_coeffs", "moment_coeffs"})
      if (!seen.count(key))
        in.fail(std::string("the file ends without ") + key +
                ": an untrained template, or cut; a potential is needed, so train it first");
  if (!(p.min_dist >= 0 && p.max_dist > p.min_dist))
    in.fail("min_dist = " + std::to_string(p.min_dist) + " and max_dist = " + std::to_string(p.max_dist) +
            ": need 0 <= min_dist < max_dist");
  if (p.max_dist > 1000) in.fail("max_dist = " + std::to_string(p.max_dist) + ": more than 1000 A");
  // Bounded by what the text filled, before anything is sized by it.
  if (static_cast<size_t>(p.alpha_moments_count) > p.index_basic.size() + p.index_times.size())
    in.fail("alpha_moments_count is larger than the moments that the file defines");
  check_indices(in, p);
  if (!p.radial_coeffs.empty()) sort_species(p);
  return p;
}

}  // namespace argyase
