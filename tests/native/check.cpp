// Drives the native core without Python or LAMMPS, for builds with sanitizers.
//
//   check isa FILE                    the instruction set that the kernel has chosen
//   check numbers ATOMS FILE...       energy and forces of some random atoms, to compare machines
//   check evaluate ATOMS FILE...      forces of up to so many random atoms: derivatives of the energy, in
//                                     double and mixed, on threads
//   check fuzz ROUNDS SEED FILE...    damaged copies of the files: refused, or potentials that can be
//                                     evaluated
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

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

void evaluate(const char* file, int most) {
  const Kernel kernel(argyase::parse_mtp(read(file)));
  Random random(1);
  for (const int atoms : {1, 2, 7, 8, 9, 33, 350}) {
    if (atoms > most) break;
    Cluster c = cluster(atoms, kernel.species_count(), 2.5 * std::cbrt(atoms), random);
    System one(kernel, 1), three(kernel, 3);
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
    // One coordinate, displaced by 1e-5 A: rounding 1e-11 of the largest force, curvature cancels.
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
                 "usage: check isa FILE | check numbers ATOMS FILE... | check evaluate ATOMS FILE... | check "
                 "fuzz ROUNDS SEED FILE...\n");
    return 2;
  }
}
