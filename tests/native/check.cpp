// Drives the native core without Python or LAMMPS, for builds with sanitizers.
//
//   check isa FILE                 the instruction set that the kernel has chosen
//   check numbers ATOMS FILE...    energy and forces of some random atoms, to compare machines
//   check evaluate ATOMS FILE...   forces of up to so many random atoms: derivatives of the energy, in double
//   and
//                                  mixed, on threads, with a repulsion; extrapolation grades; rows of the
//                                  design matrix
//   check fuzz ROUNDS SEED FILE... damaged copies of the files: refused, or potentials that can be evaluated;
//   damaged
//                                  active sets: refused
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "design.h"
#include "mtp_system.h"

namespace {

using argyase::Kernel;
using argyase::System;
using Random = std::mt19937_64;

std::string read(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) std::fprintf(stderr, "%s: cannot be read\n", path), std::exit(2);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Cluster {
  std::vector<double> x;
  std::vector<int> species;
};

Cluster cluster(int atoms, int kinds, double side, Random& random) {
  std::uniform_real_distribution<double> place(0.0, side);
  Cluster c;
  for (int i = 0; i < 3 * atoms; ++i) c.x.push_back(place(random));
  for (int i = 0; i < atoms; ++i)
    c.species.push_back(static_cast<int>(random() % static_cast<unsigned>(kinds)));
  return c;
}

template <class T>
double energy(System& system, const Cluster& c, std::vector<double>& f, int centres) {
  f.assign(c.x.size(), 0.0);
  const int n = static_cast<int>(c.species.size());
  system.build(centres, n, c.x.data(), c.species.data(), 0.5);
  std::vector<double> energies(n), virials(6 * n, 0.0);
  argyase::Outputs out;
  out.energies = energies.data(), out.atom_virials = virials.data();
  return system.compute<T>(c.x.data(), f.data(), out);
}

void expect(bool right, const char* what, const char* file) {
  if (!right) std::fprintf(stderr, "%s: %s\n", file, what), std::exit(1);
}

// An active set of random numbers, and what a plain double loop makes of it.
void grades(const char* file, const argyase::Potential& potential, const Kernel& kernel, Random& random) {
  const int kinds = kernel.species_count(), scalars = kernel.scalar_count(), m = kinds + scalars;
  std::normal_distribution<double> normal;
  std::vector<double> rows(static_cast<size_t>(m) * m);
  for (double& v : rows) v = normal(random);
  const argyase::ActiveSet made(argyase::fingerprint(potential), kinds, m, rows);
  const argyase::ActiveSet set = argyase::ActiveSet::parse(made.format());
  set.check(potential);
  const Cluster c = cluster(29, kinds, 7.0, random);
  System system(kernel, 1);
  system.set_active_set(&set);
  system.build(29, 29, c.x.data(), c.species.data(), 0.5);
  std::vector<double> f(3 * 29, 0.0), found(29), basis(29 * static_cast<size_t>(scalars));
  argyase::Outputs out;
  out.grades = found.data(), out.basis = basis.data();
  system.compute<double>(c.x.data(), f.data(), out);
  // Coefficients of b in the rows, by an elimination of its own, least stable
  // and readable.
  for (int i = 0; i < 29; ++i) {
    std::vector<double> a(static_cast<size_t>(m) * (m + 1));
    for (int r = 0; r < m; ++r) {
      for (int k = 0; k < m; ++k) a[r * (m + 1) + k] = rows[static_cast<size_t>(k) * m + r];
      a[r * (m + 1) + m] =
          r < kinds ? r == c.species[i] : basis[i * static_cast<size_t>(scalars) + r - kinds];
    }
    double largest = 0;
    for (int k = 0; k < m; ++k) {
      int pivot = k;
      for (int r = k; r < m; ++r)
        if (std::fabs(a[r * (m + 1) + k]) > std::fabs(a[pivot * (m + 1) + k])) pivot = r;
      for (int q = 0; q <= m; ++q) std::swap(a[pivot * (m + 1) + q], a[k * (m + 1) + q]);
      for (int r = 0; r < m; ++r) {
        const double times = r == k ? 0 : a[r * (m + 1) + k] / a[k * (m + 1) + k];
        for (int q = k; q <= m; ++q) a[r * (m + 1) + q] -= times * a[k * (m + 1) + q];
      }
    }
    for (int k = 0; k < m; ++k)
      largest = std::max(largest, std::fabs(a[k * (m + 1) + m] / a[k * (m + 1) + k]));
    expect(std::fabs(found[i] - largest) <= 1e-8 * largest, "a grade is wrong", file);
  }
}

// Rows of the design matrix: their linear columns give energy and forces, and one radial coefficient,
// changed, does what its column says.
void design(const char* file, argyase::Potential potential, Random& random) {
  const Kernel kernel(potential);
  const int kinds = kernel.species_count();
  const Cluster c = cluster(9, kinds, 5.5, random);
  const double cell[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  const bool periodic[3] = {};
  argyase::Frames frames(kernel);
  frames.add(9, c.x.data(), c.species.data(), cell, periodic);
  frames.add(1, c.x.data(), c.species.data(), cell, periodic);
  System system(kernel, 1);
  std::vector<double> f;
  const double e = energy<double>(system, c, f, 9);
  double size = 1 + std::fabs(e);
  for (const double v : f) size = std::max(size, std::fabs(v));

  std::vector<double> x = potential.species_coeffs;
  x.insert(x.end(), potential.moment_coeffs.begin(), potential.moment_coeffs.end());
  argyase::Threads threads(2);
  const auto rows = [&](const argyase::Potential& p, bool radial, long& stride) {
    const argyase::Design design(p);
    stride = design.linear_columns() + (radial ? design.radial_columns() : 0) + argyase::Design::padding;
    const size_t count = argyase::Design::rows(9) + argyase::Design::rows(1);
    std::vector<double> out(count * stride), weights(count, 1.0);
    design.compute(frames, 0, 2, radial, weights.data(), out.data(), stride, threads);
    return out;
  };
  const auto predicted = [&](const std::vector<double>& out, long stride, int row) {
    double sum = 0;
    for (size_t k = 0; k < x.size(); ++k) sum += out[row * stride + k] * x[k];
    return sum;
  };
  long all, linear;
  const std::vector<double> whole = rows(potential, true, all);
  expect(std::fabs(predicted(whole, all, 0) - e) <= 1e-10 * size, "rows do not give the energy", file);
  for (int k = 0; k < 27; ++k)
    expect(std::fabs(predicted(whole, all, 1 + k) - f[k]) <= 1e-10 * size, "rows do not give the forces",
           file);
  const size_t changed = random() % potential.radial_coeffs.size();
  const double h = 1e-5;
  potential.radial_coeffs[changed] += h;
  const std::vector<double> up = rows(potential, false, linear);
  potential.radial_coeffs[changed] -= 2 * h;
  const std::vector<double> down = rows(potential, false, linear);
  for (int row = 0; row < argyase::Design::rows(9); ++row) {
    const double slope = (predicted(up, linear, row) - predicted(down, linear, row)) / (2 * h);
    const double column = whole[row * all + static_cast<long>(x.size() + changed)];
    // Rounding of numbers of this size over h, and h^2.
    expect(std::fabs(slope - column) <= 1e-6 * (size + std::fabs(column)),
           "a radial column is not a derivative", file);
  }
}

void evaluate(const char* file, int most) {
  const argyase::Potential potential = argyase::parse_mtp(read(file));
  const Kernel kernel(potential);
  Random random(1);
  grades(file, potential, kernel, random);
  design(file, potential, random);
  for (const int atoms : {1, 2, 7, 8, 9, 33, 350}) {
    if (atoms > most) break;
    Cluster c = cluster(atoms, kernel.species_count(), 2.5 * std::cbrt(atoms), random);
    System one(kernel, 1), three(kernel, 3);
    argyase::Repulsion repulsion(kernel.species_count());
    const double outer = std::min(1.5, kernel.cutoff());
    for (int i = 0; i < kernel.species_count(); ++i)
      for (int j = 0; j <= i; ++j) repulsion.set(i, j, 3 + i, 3 + j, 0.6 * outer, outer, kernel.cutoff());
    if (atoms % 2 == 1) one.set_repulsion(&repulsion), three.set_repulsion(&repulsion);
    std::vector<double> f, g, single;
    const double e = energy<double>(one, c, f, atoms);
    double largest = 1.0;
    for (const double v : f) largest = std::max(largest, std::fabs(v));
    expect(std::isfinite(e), "the energy is not finite", file);
    expect(std::fabs(energy<double>(three, c, g, atoms) - e) <= 1e-9 * (1 + std::fabs(e)), "threads differ",
           file);
    for (size_t k = 0; k < f.size(); ++k)
      expect(std::fabs(f[k] - g[k]) <= 1e-9 * largest, "threads differ", file);
    energy<float>(one, c, single, atoms);
    double error = 0, size = 0;
    for (size_t k = 0; k < f.size(); ++k) error += std::pow(f[k] - single[k], 2), size += f[k] * f[k];
    expect(std::sqrt(error) <= 1e-3 * (1 + std::sqrt(size)), "single precision is too far off", file);
    // One coordinate, displaced by 1e-5 A: rounding 1e-11 of the largest force,
    // curvature cancels.
    const size_t k = static_cast<size_t>(random() % f.size());
    const double h = 1e-5, was = c.x[k];
    c.x[k] = was + h;
    const double up = energy<double>(one, c, g, atoms);
    c.x[k] = was - h;
    const double down = energy<double>(one, c, g, atoms);
    c.x[k] = was;
    const double rounding = 1e-14 * (std::fabs(up) + 1) / h;
    expect(std::fabs((down - up) / (2 * h) - f[k]) <= 1e-4 * largest + 100 * rounding, "not a derivative",
           file);
    energy<double>(one, c, f, atoms / 2);  // the others are images
  }
}

void numbers(const char* file, int atoms) {
  const Kernel kernel(argyase::parse_mtp(read(file)));
  Random random(7);
  const Cluster c = cluster(atoms, kernel.species_count(), 2.5 * std::cbrt(atoms), random);
  System system(kernel, 1);
  std::vector<double> f;
  std::printf("%.17g\n", energy<double>(system, c, f, atoms));
  for (const double v : f) std::printf("%.17g\n", v);
}

void fuzz(int rounds, unsigned long long seed, const std::vector<std::string>& files) {
  Random random(seed);
  const std::string bytes = "0123456789-+.eE{},=# \n\t\r\xff" + std::string(1, '\0') + "naifMTP";
  int accepted = 0;
  for (int round = 0; round < rounds; ++round) {
    std::string text = files[random() % files.size()];
    const auto place = [&] { return static_cast<size_t>(random() % (text.size() + 1)); };
    for (unsigned long long n = 1 + random() % 4; n > 0 && !text.empty(); --n) switch (random() % 5) {
        case 0:
          text.resize(place());
          break;
        case 1:
          text.insert(place(), 1, bytes[random() % bytes.size()]);
          break;
        case 2:
          text.erase(place() % text.size(), 1 + random() % 20);
          break;
        case 3:
          text[place() % text.size()] = bytes[random() % bytes.size()];
          break;
        default:
          text.insert(place(), text.substr(place() % text.size(), random() % 200));
          break;
      }
    try {
      const Kernel kernel(argyase::parse_mtp(text));
      // A cutoff of many cells is right but slow.
      if (kernel.cutoff() > 50) continue;
      System system(kernel, 1);
      const Cluster c = cluster(9, kernel.species_count(), 5.0, random);
      std::vector<double> f;
      energy<double>(system, c, f, 9);
      energy<float>(system, c, f, 9);
      ++accepted;
    } catch (const argyase::ParseError&) {
    }
  }
  std::printf("%d of %d damaged files were still potentials\n", accepted, rounds);

  const argyase::ActiveSet good(7, 1, 3, {1, 2, 3, 0, 1, 4, 5, 6, 0});
  for (int round = 0; round < rounds; ++round) {
    std::string text = good.format();
    const std::string was = text;
    for (unsigned long long n = 1 + random() % 3; n > 0 && !text.empty(); --n) switch (random() % 3) {
        case 0:
          text.resize(random() % (text.size() + 1));
          break;
        case 1:
          text.insert(random() % (text.size() + 1), 1, static_cast<char>(random() % 256));
          break;
        default:
          text[random() % text.size()] = static_cast<char>(random() % 256);
          break;
      }
    if (text == was) continue;
    try {
      argyase::ActiveSet::parse(text);
      expect(false, "was read", "a damaged active set");
    } catch (const argyase::ActiveSetError&) {
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "isa") == 0) {
    std::printf("%s\n", Kernel(argyase::parse_mtp(read(argv[2]))).isa());
  } else if (argc > 3 && std::strcmp(argv[1], "evaluate") == 0) {
    for (int k = 3; k < argc; ++k) evaluate(argv[k], std::atoi(argv[2]));
    std::printf("%d potentials evaluated\n", argc - 3);
  } else if (argc > 3 && std::strcmp(argv[1], "numbers") == 0) {
    for (int k = 3; k < argc; ++k) numbers(argv[k], std::atoi(argv[2]));
  } else if (argc > 4 && std::strcmp(argv[1], "fuzz") == 0) {
    std::vector<std::string> files;
    for (int k = 4; k < argc; ++k) files.push_back(read(argv[k]));
    fuzz(std::atoi(argv[2]), std::strtoull(argv[3], nullptr, 10), files);
  } else {
    std::fprintf(stderr,
                 "usage: check isa FILE | check numbers ATOMS FILE... "
                 "| check evaluate ATOMS FILE... | check "
                 "fuzz ROUNDS SEED FILE...\n");
    return 2;
  }
}
