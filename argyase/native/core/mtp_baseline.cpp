#define ARGYASE_ISA baseline
#define ARGYASE_BYTES 16
#include "mtp_simd.inc"
#include "design_simd.inc"
