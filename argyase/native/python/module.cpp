// The kernel and the reader of .mtp files for Python. Shapes and ranges are checked here, never in the
// kernel.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "mtp_kernel.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

argyase::Potential parse(const nb::bytes& text, const std::string& name) {
  try {
    return argyase::parse_mtp({text.c_str(), text.size()});
  } catch (const argyase::ParseError& e) {
    throw nb::value_error((name + ", " + e.what()).c_str());
  }
}

template <class T>
nb::object array(const T* data, std::initializer_list<size_t> shape) {
  size_t size = 1;
  for (const size_t n : shape) size *= n;
  T* copy = new T[size];
  std::copy(data, data + size, copy);
  nb::capsule owner(copy, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T>(copy, shape, owner));
}

nb::dict parse_mtp(const nb::bytes& text, const std::string& name) {
  const argyase::Potential p = parse(text, name);
  const size_t species = p.species_count, mus = p.radial_funcs_count, basis = p.radial_basis_size;
  nb::dict d;
  d["version"] = p.version;
  d["potential_name"] = p.potential_name;
  d["potential_tag"] = p.potential_tag;
  d["radial_basis_type"] = p.radial_basis_type;
  d["scaling"] = p.scaling;
  d["min_dist"] = p.min_dist;
  d["max_dist"] = p.max_dist;
  d["species_count"] = p.species_count;
  d["radial_basis_size"] = p.radial_basis_size;
  d["radial_funcs_count"] = p.radial_funcs_count;
  d["radial_coeffs"] = array(p.radial_coeffs.data(), {species, species, mus, basis});
  d["alpha_moments_count"] = p.alpha_moments_count;
  d["alpha_index_basic"] =
      array(reinterpret_cast<const int*>(p.index_basic.data()), {p.index_basic.size(), 4});
  d["alpha_index_times"] =
      array(reinterpret_cast<const int*>(p.index_times.data()), {p.index_times.size(), 4});
  d["alpha_moment_mapping"] = array(p.moment_mapping.data(), {p.moment_mapping.size()});
  d["species_coeffs"] = array(p.species_coeffs.data(), {p.species_coeffs.size()});
  d["moment_coeffs"] = array(p.moment_coeffs.data(), {p.moment_coeffs.size()});
  return d;
}

template <class T, class Shape>
using In = nb::ndarray<const T, Shape, nb::c_contig, nb::device::cpu>;

class PyKernel {
 public:
  PyKernel(const nb::bytes& text, const std::string& name) : kernel_(parse(text, name)) {}

  double cutoff() const { return kernel_.cutoff(); }
  int species_count() const { return kernel_.species_count(); }
  const char* isa() const { return kernel_.isa(); }

  nb::tuple compute(const In<int32_t, nb::ndim<1>>& types, const In<int64_t, nb::ndim<1>>& first,
                    const In<int64_t, nb::ndim<1>>& neighbours,
                    const In<double, nb::shape<-1, 3>>& vectors) const {
    const int64_t n = types.shape(0), pairs = neighbours.shape(0);
    const int kinds = species_count();
    if (static_cast<int64_t>(first.shape(0)) != n + 1)
      throw nb::value_error("first: expected one entry more than types");
    if (static_cast<int64_t>(vectors.shape(0)) != pairs)
      throw nb::value_error("vectors: expected one row for each neighbour");
    const int32_t* t = types.data();
    const int64_t *begin = first.data(), *j = neighbours.data();
    const double* r = vectors.data();
    if (begin[0] != 0 || begin[n] != pairs)
      throw nb::value_error("first: must begin with 0 and end with the number of neighbours");
    for (int64_t i = 0; i < n; ++i) {
      if (t[i] < 0 || t[i] >= kinds)
        throw nb::value_error(
            ("types: " + std::to_string(t[i]) + " is not one of the " + std::to_string(kinds) + " species")
                .c_str());
      if (begin[i + 1] < begin[i]) throw nb::value_error("first: must not decrease");
    }
    for (int64_t k = 0; k < pairs; ++k)
      if (j[k] < 0 || j[k] >= n) throw nb::value_error("neighbours: index out of range");
    for (int64_t k = 0; k < 3 * pairs; ++k)
      if (!std::isfinite(r[k])) throw nb::value_error("vectors: not finite");

    std::vector<double> energies(n), forces(3 * n, 0.0);
    double virial[9] = {};
    {
      nb::gil_scoped_release release;
      evaluate(n, t, begin, j, r, energies.data(), forces.data(), virial);
    }
    return nb::make_tuple(array(energies.data(), {size_t(n)}), array(forces.data(), {size_t(n), 3}),
                          array(virial, {3, 3}));
  }

 private:
  void evaluate(int64_t n, const int32_t* t, const int64_t* begin, const int64_t* j, const double* r,
                double* energies, double* forces, double* virial) const {
    const int kinds = species_count();
    const double cutoff2 = cutoff() * cutoff();
    const auto work = kernel_.workspace();
    argyase::Neighbours<double> batch[argyase::kBatch];
    for (int64_t start = 0; start < n; start += argyase::kBatch) {
      const int count = static_cast<int>(std::min<int64_t>(argyase::kBatch, n - start));
      int species[argyase::kBatch];
      for (int b = 0; b < count; ++b) {
        const int64_t i = start + b;
        argyase::Neighbours<double>& nbs = batch[b];
        nbs.reserve(static_cast<int>(begin[i + 1] - begin[i]), kinds);
        species[b] = t[i];
        int m = 0;
        for (int s = 0; s < kinds; ++s) {
          nbs.begin[s] = m;
          for (int64_t k = begin[i]; k < begin[i + 1]; ++k) {
            const double* v = r + 3 * k;
            const double r2 = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
            if (t[j[k]] != s || r2 >= cutoff2) continue;
            nbs.x[m] = v[0], nbs.y[m] = v[1], nbs.z[m] = v[2], nbs.r2[m] = r2,
            nbs.tag[m] = static_cast<int>(j[k]);
            ++m;
          }
        }
        nbs.begin[kinds] = m;
      }
      kernel_.compute(*work, count, species, batch, energies + start);
      for (int b = 0; b < count; ++b) {
        const argyase::Neighbours<double>& nbs = batch[b];
        double* fi = forces + 3 * (start + b);
        for (int m = 0; m < nbs.begin[kinds]; ++m) {
          const double g[3] = {nbs.gx[m], nbs.gy[m], nbs.gz[m]}, v[3] = {nbs.x[m], nbs.y[m], nbs.z[m]};
          double* fj = forces + 3 * static_cast<int64_t>(nbs.tag[m]);
          for (int c = 0; c < 3; ++c) {
            fi[c] += g[c], fj[c] -= g[c];
            for (int d = 0; d < 3; ++d) virial[3 * c + d] += v[c] * g[d];
          }
        }
      }
    }
  }

  argyase::Kernel kernel_;
};

}  // namespace

NB_MODULE(_mtp, m) {
  m.def("parse_mtp", &parse_mtp, "text"_a, "name"_a);
  nb::class_<PyKernel>(m, "Kernel")
      .def(nb::init<const nb::bytes&, const std::string&>(), "text"_a, "name"_a)
      .def_prop_ro("cutoff", &PyKernel::cutoff)
      .def_prop_ro("species_count", &PyKernel::species_count)
      .def_prop_ro("isa", &PyKernel::isa)
      .def("compute", &PyKernel::compute, "types"_a, "first"_a, "neighbours"_a, "vectors"_a);
}
