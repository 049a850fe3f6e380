#include "kernels.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>

namespace vispruner {
namespace {

// How long a thread looks for the next work before it sleeps: about the time between two operations of a small model.
constexpr auto kWatch = std::chrono::microseconds(60);

void Relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

int ThreadCount() {
  const char* asked = std::getenv("TF_NUM_INTRAOP_THREADS");
  const int count = asked == nullptr ? 0 : std::atoi(asked);
  if (count > 0) return count;
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  return cores > 0 ? cores : 1;
}

// A part of the work at a time is taken by whoever is free, so that a core that is busy elsewhere holds nothing up.
struct Work {
  const std::function<void(int64_t, int64_t)>* body;
  int64_t count;
  int64_t grain;
  std::atomic<int64_t> next{0};

  void Run() {
    for (;;) {
      const int64_t begin = next.fetch_add(grain);
      if (begin >= count) return;
      (*body)(begin, begin + grain < count ? begin + grain : count);
    }
  }
};

class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 1; i < threads; ++i) std::thread([this] { Serve(); }).detach();
    workers_ = threads - 1;
  }

  int workers() const { return workers_; }

  // False when another caller has the threads.
  bool Try(Work* work) {
    std::unique_lock<std::mutex> own(callers_, std::try_to_lock);
    if (!own.owns_lock()) return false;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      work_ = work;
      round_.fetch_add(1);
    }
    wake_.notify_all();
    work->Run();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      work_ = nullptr;  // who comes now finds nothing
    }
    while (running_.load() > 0) Relax();  // at most one part each
    return true;
  }

 private:
  void Serve() {
    uint64_t seen = 0;
    for (;;) {
      const auto end = std::chrono::steady_clock::now() + kWatch;
      while (round_.load() == seen && std::chrono::steady_clock::now() < end) Relax();
      Work* work;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return round_.load() != seen; });
        seen = round_.load();
        work = work_;
        if (work != nullptr) running_.fetch_add(1);
      }
      if (work == nullptr) continue;
      work->Run();
      running_.fetch_sub(1);
    }
  }

  int workers_ = 0;
  std::mutex callers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> round_{0};
  std::atomic<int> running_{0};
  Work* work_ = nullptr;
};

// Never destroyed: its threads may wait in it while the process ends.
Pool& ThePool() {
  static Pool* pool = new Pool(ThreadCount());
  return *pool;
}

void UnknownShape(TF_ShapeInferenceContext* context, TF_Status* status) { TF_ShapeInferenceContextSetUnknownShape(context, status); }

}  // namespace

bool HasAvx2() {
#if defined(__x86_64__)
  static const bool has = [] {
    const char* portable = std::getenv("VISPRUNER_PORTABLE");
    if (portable != nullptr && std::strcmp(portable, "1") == 0) return false;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  }();
  return has;
#else
  return false;
#endif
}

void Parallel(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (count <= 0) return;
  if (grain < 1) grain = 1;
  Work work{&body, count, grain};
  if (count <= grain || ThePool().workers() == 0 || !ThePool().Try(&work)) work.Run();
}

Call::~Call() {
  for (TF_Tensor* tensor : inputs_) TF_DeleteTensor(tensor);
  for (TF_Tensor* tensor : outputs_) TF_DeleteTensor(tensor);
  TF_DeleteStatus(status_);
}

const TF_Tensor* Call::Input(int index) {
  TF_Tensor* tensor = nullptr;
  TF_GetInput(context_, index, &tensor, status_);
  if (TF_GetCode(status_) != TF_OK) {
    TF_OpKernelContext_Failure(context_, status_);
    return nullptr;
  }
  inputs_.push_back(tensor);
  return tensor;
}

void* Call::Output(int index, TF_DataType type, const std::vector<int64_t>& shape) {
  int64_t bytes = static_cast<int64_t>(TF_DataTypeSize(type));
  for (const int64_t size : shape) bytes *= size;
  TF_Tensor* tensor = TF_AllocateOutput(context_, index, type, shape.data(), static_cast<int>(shape.size()), bytes, status_);
  if (TF_GetCode(status_) != TF_OK) {
    TF_OpKernelContext_Failure(context_, status_);
    return nullptr;
  }
  outputs_.push_back(tensor);
  return TF_TensorData(tensor);
}

void Call::Fail(const std::string& message) {
  TF_SetStatus(status_, TF_INVALID_ARGUMENT, message.c_str());
  TF_OpKernelContext_Failure(context_, status_);
}

void* CreateNothing(TF_OpKernelConstruction*) { return nullptr; }

void DeleteNothing(void*) {}

void* CreateEpsilon(TF_OpKernelConstruction* construction) {
  auto* epsilon = new float(0);
  TF_Status* status = TF_NewStatus();
  TF_OpKernelConstruction_GetAttrFloat(construction, "epsilon", epsilon, status);
  if (TF_GetCode(status) != TF_OK) TF_OpKernelConstruction_Failure(construction, status);
  TF_DeleteStatus(status);
  return epsilon;
}

void DeleteEpsilon(void* kernel) { delete static_cast<float*>(kernel); }

void Register(const char* name, const std::vector<const char*>& attributes, const std::vector<const char*>& inputs, const std::vector<const char*>& outputs,
              void* (*create)(TF_OpKernelConstruction*), void (*compute)(void*, TF_OpKernelContext*), void (*destroy)(void*)) {
  TF_Status* status = TF_NewStatus();
  TF_OpDefinitionBuilder* definition = TF_NewOpDefinitionBuilder(name);
  for (const char* attribute : attributes) TF_OpDefinitionBuilderAddAttr(definition, attribute);
  for (const char* input : inputs) TF_OpDefinitionBuilderAddInput(definition, input);
  for (const char* output : outputs) TF_OpDefinitionBuilderAddOutput(definition, output);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(definition, UnknownShape);
  TF_RegisterOpDefinition(definition, status);
  if (TF_GetCode(status) == TF_OK) TF_RegisterKernelBuilder(name, TF_NewKernelBuilder(name, "CPU", create, compute, destroy), status);
  if (TF_GetCode(status) != TF_OK) std::fprintf(stderr, "vispruner: %s is not available: %s\n", name, TF_Message(status));
  TF_DeleteStatus(status);
}

}  // namespace vispruner
