// What the operations of this folder share. They are registered with TensorFlow through its C API when the binding is loaded, and are then called by
// name like TensorFlow's own.
#ifndef VISPRUNER_KERNELS_H_
#define VISPRUNER_KERNELS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_datatype.h"
#include "tensorflow/c/tf_status.h"
#include "tensorflow/c/tf_tensor.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace vispruner {

// Whether the processor has AVX2, FMA and F16C, and VISPRUNER_PORTABLE=1 does not forbid them.
bool HasAvx2();

// Calls body(begin, end) for parts of [0, count) of at most `grain` each, on all cores; returns when all are done. A caller that finds the threads
// busy with another's work does its own work alone.
void Parallel(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

// Arguments of one call. An operation that finds something wrong says so by Fail and returns.
class Call {
 public:
  explicit Call(TF_OpKernelContext* context) : context_(context), status_(TF_NewStatus()) {}
  ~Call();
  Call(const Call&) = delete;

  // Input i, borrowed for the call; null after a failure.
  const TF_Tensor* Input(int index);
  // Output i, to be written; null after a failure.
  void* Output(int index, TF_DataType type, const std::vector<int64_t>& shape);
  void Fail(const std::string& message);

 private:
  TF_OpKernelContext* context_;
  TF_Status* status_;
  std::vector<TF_Tensor*> inputs_;
  std::vector<TF_Tensor*> outputs_;
};

template <typename T>
const T* Data(const TF_Tensor* tensor) {
  return static_cast<const T*>(TF_TensorData(tensor));
}

// For Register: an operation keeps nothing, or its attribute "epsilon" as a float.
void* CreateNothing(TF_OpKernelConstruction* construction);
void DeleteNothing(void* kernel);
void* CreateEpsilon(TF_OpKernelConstruction* construction);
void DeleteEpsilon(void* kernel);

// Registers an operation for the CPU. `arguments` are op definition parts: "x: float" in `inputs`, "T: {float, half}" in `attributes`.
void Register(const char* name, const std::vector<const char*>& attributes, const std::vector<const char*>& inputs, const std::vector<const char*>& outputs,
              void* (*create)(TF_OpKernelConstruction*), void (*compute)(void*, TF_OpKernelContext*), void (*destroy)(void*));

}  // namespace vispruner

#endif  // VISPRUNER_KERNELS_H_
