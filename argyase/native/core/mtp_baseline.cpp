#define ARGYASE_ISA baseline
#define ARGYASE_BYTES 16
#include "design_simd.inc"
#include "mtp_simd.inc"
