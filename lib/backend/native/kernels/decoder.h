#ifndef VISPRUNER_DECODER_H_
#define VISPRUNER_DECODER_H_

#include <cstdint>

namespace vispruner {

// x [rows, size] and weight [size] -> y [rows, size]
void NormRows(const float* x, const float* weight, float epsilon, float* y, int64_t rows, int64_t size);

// x [rows, width], of heads of 2 half, and its rows' cosines and sines [rows, half] -> y [rows, width]
void RotateRows(const float* x, const float* cosines, const float* sines, float* y, int64_t rows, int64_t width, int64_t half);

// gate sigmoid(gate) up; y may be either.
void Gate(const float* gate, const float* up, float* y, int64_t count);

}  // namespace vispruner

#endif  // VISPRUNER_DECODER_H_
