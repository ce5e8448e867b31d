// Atoms of a periodic cell and the images of them that they can see.
#pragma once

#include <cstdint>
#include <vector>

namespace argyase {

struct Images {
  std::vector<double> x;  // (image, 3): first the atoms themselves, moved into the cell, then their images
  std::vector<int> origin, species;  // which atom each is, or is an image of
};

// Cell vectors stand in rows. Throws std::invalid_argument if the cell has no volume.
Images images_of(int64_t n, const double* x, const int32_t* types, const double* cell, const bool* periodic,
                 double cutoff);

}  // namespace argyase
