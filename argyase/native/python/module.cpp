// The kernel and the reader of .mtp files for Python. Shapes and ranges are checked here, never in the
// kernel.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "design.h"
#include "images.h"
#include "mtp_system.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

argyase::Potential parse(const nb::bytes& text, const std::string& name, bool untrained = false) {
  try {
    return argyase::parse_mtp({text.c_str(), text.size()}, untrained);
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

nb::dict parse_mtp(const nb::bytes& text, const std::string& name, bool untrained) {
  const argyase::Potential p = parse(text, name, untrained);
  const size_t species = p.radial_coeffs.empty() ? 0 : p.species_count, mus = p.radial_funcs_count,
               basis = p.radial_basis_size;
  nb::dict d;
  d["version"] = p.version;
  d["potential_name"] = p.potential_name;
  d["potential_tag"] = p.potential_tag;
  d["radial_basis_type"] = p.radial_basis_type;
  d["scaling"] = p.scaling;
  d["min_dist"] = p.min_dist;
  d["max_dist"] = p.max_dist;
  d["species_count"] = p.species_count;
  d["species_types"] = array(p.species_types.data(), {p.species_types.size()});
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

void check_atoms(const In<int32_t, nb::ndim<1>>& types, const In<double, nb::shape<-1, 3>>& positions,
                 const In<double, nb::shape<3, 3>>& cell, int species) {
  const int64_t n = types.shape(0);
  if (static_cast<int64_t>(positions.shape(0)) != n)
    throw nb::value_error("positions: expected one row for each of types");
  for (int64_t i = 0; i < n; ++i)
    if (types.data()[i] < 0 || types.data()[i] >= species)
      throw nb::value_error(("types: " + std::to_string(types.data()[i]) + " is not one of the " +
                             std::to_string(species) + " species")
                                .c_str());
  for (int64_t k = 0; k < 3 * n; ++k)
    if (!std::isfinite(positions.data()[k])) throw nb::value_error("positions: not finite");
  for (int k = 0; k < 9; ++k)
    if (!std::isfinite(cell.data()[k])) throw nb::value_error("cell: not finite");
}

argyase::ActiveSet parse_set(const nb::bytes& bytes, const std::string& name) {
  try {
    return argyase::ActiveSet::parse({bytes.c_str(), bytes.size()});
  } catch (const argyase::ActiveSetError& e) {
    throw nb::value_error((name + ": " + e.what()).c_str());
  }
}

nb::tuple parse_active_set(const nb::bytes& bytes, const std::string& name) {
  const argyase::ActiveSet set = parse_set(bytes, name);
  const size_t m = set.size();
  return nb::make_tuple(set.fingerprint(), set.species_count(), array(set.rows().data(), {m, m}));
}

nb::bytes format_active_set(uint64_t fingerprint, int species, const In<double, nb::ndim<2>>& rows) {
  const size_t m = rows.shape(0);
  if (rows.shape(1) != m || m < 1 || m > 65536 || species < 1 || static_cast<size_t>(species) > m)
    throw nb::value_error("rows: expected a square matrix with a row for each species at least");
  for (size_t k = 0; k < m * m; ++k)
    if (!std::isfinite(rows.data()[k])) throw nb::value_error("rows: not finite");
  try {
    const argyase::ActiveSet set(fingerprint, species, static_cast<int>(m),
                                 {rows.data(), rows.data() + m * m});
    const std::string text = set.format();
    return nb::bytes(text.data(), text.size());
  } catch (const argyase::ActiveSetError& e) {
    throw nb::value_error(e.what());
  }
}

class PyKernel {
 public:
  PyKernel(const nb::bytes& text, const std::string& name, int threads, const std::string& precision)
      : PyKernel(parse(text, name), threads, precision) {}
  PyKernel(const argyase::Potential& potential, int threads, const std::string& precision)
      : potential_(potential), kernel_(potential_), system_(kernel_, threads), mixed_(precision == "mixed") {
    if (precision != "double" && precision != "mixed")
      throw nb::value_error("precision: expected 'double' or 'mixed'");
  }

  uint64_t fingerprint() const { return argyase::fingerprint(potential_); }
  int scalar_count() const { return kernel_.scalar_count(); }

  // Each entry: species i and j, their nuclear charges, inner and outer distance.
  void set_repulsion(const std::vector<std::tuple<int, int, double, double, double, double>>& entries) {
    auto made = std::make_unique<argyase::Repulsion>(species_count());
    try {
      for (const auto& [i, j, z_i, z_j, inner, outer] : entries)
        made->set(i, j, z_i, z_j, inner, outer, cutoff());
    } catch (const std::invalid_argument& e) {
      throw nb::value_error(e.what());
    }
    const std::lock_guard<std::mutex> alone(mutex_);
    repulsion_ = entries.empty() ? nullptr : std::move(made);
    system_.set_repulsion(repulsion_.get());
  }

  void set_active_set(const nb::bytes& bytes, const std::string& name) {
    auto made = std::make_unique<argyase::ActiveSet>(parse_set(bytes, name));
    try {
      made->check(potential_);
    } catch (const argyase::ActiveSetError& e) {
      throw nb::value_error((name + ": " + e.what()).c_str());
    }
    const std::lock_guard<std::mutex> alone(mutex_);
    active_ = std::move(made);
    system_.set_active_set(active_.get());
  }

  double cutoff() const { return kernel_.cutoff(); }
  int species_count() const { return kernel_.species_count(); }
  nb::object species_types() const {
    return array(potential_.species_types.data(), {potential_.species_types.size()});
  }
  const char* isa() const { return kernel_.isa(); }

  // Energies, forces, virial; grades, of size 0 without an active set; basis functions, of size 0 unless
  // wanted.
  nb::tuple compute(const In<int32_t, nb::ndim<1>>& types, const In<double, nb::shape<-1, 3>>& positions,
                    const In<double, nb::shape<3, 3>>& cell, const In<bool, nb::shape<3>>& periodic,
                    bool with_basis) {
    const int64_t n = types.shape(0);
    check_atoms(types, positions, cell, species_count());

    std::vector<double> energies(n), forces(3 * n, 0.0);
    std::vector<double> grades(active_ ? n : 0), basis(with_basis ? n * scalar_count() : 0);
    double virial[9] = {};
    if (n > 0) {
      const argyase::Images images =
          argyase::images_of(n, positions.data(), types.data(), cell.data(), periodic.data(), cutoff());
      nb::gil_scoped_release release;
      const std::lock_guard<std::mutex> alone(
          mutex_);  // the lists and forces in `system_` are for one at a time
      const int count = static_cast<int>(images.origin.size());
      std::vector<double> f(3 * static_cast<size_t>(count), 0.0);
      system_.build(static_cast<int>(n), count, images.x.data(), images.species.data(), 0.0);
      argyase::Outputs out;
      out.energies = energies.data();
      if (active_) out.grades = grades.data();
      if (with_basis) out.basis = basis.data();
      if (mixed_)
        system_.compute<float>(images.x.data(), f.data(), out);
      else
        system_.compute<double>(images.x.data(), f.data(), out);
      // The sum over pairs of (r_j - r_i) x dE/d(r_j - r_i) is that over atoms and images of -r x f.
      for (int i = 0; i < count; ++i)
        for (int c = 0; c < 3; ++c) {
          forces[3 * static_cast<size_t>(images.origin[i]) + c] += f[3 * i + c];
          for (int d = 0; d < 3; ++d) virial[3 * d + c] -= images.x[3 * i + d] * f[3 * i + c];
        }
    }
    return nb::make_tuple(array(energies.data(), {size_t(n)}), array(forces.data(), {size_t(n), 3}),
                          array(virial, {3, 3}), array(grades.data(), {grades.size()}),
                          array(basis.data(), {with_basis ? size_t(n) : 0, size_t(scalar_count())}));
  }

 private:
  argyase::Potential potential_;
  argyase::Kernel kernel_;
  std::unique_ptr<argyase::Repulsion> repulsion_;
  std::unique_ptr<argyase::ActiveSet> active_;
  argyase::System system_;
  std::mutex mutex_;
  bool mixed_;
};

// Frames to fit to, and the rows that a potential makes of them.
class PyFrames {
 public:
  PyFrames(const nb::bytes& text, const std::string& name) : kernel_(parse(text, name)), frames_(kernel_) {}

  void add(const In<int32_t, nb::ndim<1>>& types, const In<double, nb::shape<-1, 3>>& positions,
           const In<double, nb::shape<3, 3>>& cell, const In<bool, nb::shape<3>>& periodic) {
    check_atoms(types, positions, cell, kernel_.species_count());
    if (types.shape(0) == 0) throw nb::value_error("types: no atoms");
    frames_.add(static_cast<int>(types.shape(0)), positions.data(), types.data(), cell.data(),
                periodic.data());
  }
  int count() const { return frames_.count(); }
  int species_count() const { return kernel_.species_count(); }
  const argyase::Frames& frames() const { return frames_; }

 private:
  argyase::Kernel kernel_;
  argyase::Frames frames_;
};

class PyDesign {
 public:
  PyDesign(const nb::bytes& text, const std::string& name, int threads)
      : potential_(parse(text, name)), design_(potential_), threads_(threads) {}

  int linear_columns() const { return design_.linear_columns(); }
  int radial_columns() const { return design_.radial_columns(); }

  // Rows of the frames first ... last - 1 into the beginning of `out`, whose rows have room for the columns
  // and Design::padding more.
  void compute(const PyFrames& frames, int first, int last, bool radial,
               const In<double, nb::ndim<1>>& weights,
               const nb::ndarray<double, nb::ndim<2>, nb::c_contig, nb::device::cpu>& out) {
    if (frames.species_count() != potential_.species_count || frames.frames().cutoff() != potential_.max_dist)
      throw nb::value_error("frames: made for other species, or another cutoff");
    if (first < 0 || first > last || last > frames.count())
      throw nb::value_error("first, last: no such frames");
    size_t rows = 0;
    for (int f = first; f < last; ++f) rows += argyase::Design::rows(frames.frames()[f].atoms());
    const size_t columns = linear_columns() + (radial ? radial_columns() : 0);
    if (weights.shape(0) != rows) throw nb::value_error("weights: expected one for each row");
    if (out.shape(0) < rows || out.shape(1) < columns + argyase::Design::padding)
      throw nb::value_error("out: too small");
    nb::gil_scoped_release release;
    const std::lock_guard<std::mutex> alone(mutex_);
    design_.compute(frames.frames(), first, last, radial, weights.data(), out.data(),
                    static_cast<long>(out.shape(1)), threads_);
  }

 private:
  argyase::Potential potential_;
  argyase::Design design_;
  argyase::Threads threads_;
  std::mutex mutex_;
};

}  // namespace

NB_MODULE(_mtp, m) {
  m.def("parse_mtp", &parse_mtp, "text"_a, "name"_a, "untrained"_a = false);
  m.def("parse_active_set", &parse_active_set, "bytes"_a, "name"_a);
  m.def("format_active_set", &format_active_set, "fingerprint"_a, "species_count"_a, "rows"_a);
  nb::class_<PyKernel>(m, "Kernel")
      .def(nb::init<const nb::bytes&, const std::string&, int, const std::string&>(), "text"_a, "name"_a,
           "threads"_a = 1, "precision"_a = "double")
      .def_prop_ro("cutoff", &PyKernel::cutoff)
      .def_prop_ro("species_count", &PyKernel::species_count)
      .def_prop_ro("species_types", &PyKernel::species_types)
      .def_prop_ro("isa", &PyKernel::isa)
      .def_prop_ro("scalar_count", &PyKernel::scalar_count)
      .def_prop_ro("fingerprint", &PyKernel::fingerprint)
      .def("set_repulsion", &PyKernel::set_repulsion, "entries"_a)
      .def("set_active_set", &PyKernel::set_active_set, "bytes"_a, "name"_a)
      .def("compute", &PyKernel::compute, "types"_a, "positions"_a, "cell"_a, "periodic"_a,
           "basis"_a = false);
  nb::class_<PyFrames>(m, "Frames")
      .def(nb::init<const nb::bytes&, const std::string&>(), "text"_a, "name"_a)
      .def("add", &PyFrames::add, "types"_a, "positions"_a, "cell"_a, "periodic"_a)
      .def_prop_ro("count", &PyFrames::count);
  nb::class_<PyDesign>(m, "Design")
      .def(nb::init<const nb::bytes&, const std::string&, int>(), "text"_a, "name"_a, "threads"_a = 1)
      .def_prop_ro("linear_columns", &PyDesign::linear_columns)
      .def_prop_ro("radial_columns", &PyDesign::radial_columns)
      .def_prop_ro_static("padding", [](nb::handle) { return argyase::Design::padding; })
      .def("compute", &PyDesign::compute, "frames"_a, "first"_a, "last"_a, "radial"_a, "weights"_a, "out"_a);
}
