// The part of LibTorch's stable C ABI (torch 2.10 and later) that the ops use, declared by hand.
// No torch header is read and no torch library is linked, so one build serves every torch release that keeps the ABI.
#pragma once
#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

extern "C" {
struct AtenTensorOpaque;
struct TorchLibraryOpaque;
struct StableListOpaque;
using AtenTensorHandle = AtenTensorOpaque*;
using TorchLibraryHandle = TorchLibraryOpaque*;
using StableListHandle = StableListOpaque*;
using StableIValue = uint64_t;    // an argument or a result of an op: a number, or a pointer to what does not fit
using AOTITorchError = int32_t;   // 0 is success
using BoxedKernel = void (*)(StableIValue* stack, uint64_t num_args, uint64_t num_outputs);

AOTITorchError aoti_torch_library_init_fragment(const char* ns, const char* file, uint32_t line, TorchLibraryHandle* out);
AOTITorchError aoti_torch_library_init_impl(const char* ns, const char* key, const char* file, uint32_t line, TorchLibraryHandle* out);
AOTITorchError aoti_torch_library_def(TorchLibraryHandle, const char* schema);
AOTITorchError torch_library_impl(TorchLibraryHandle, const char* name, BoxedKernel, uint64_t built_for);

AOTITorchError torch_list_size(StableListHandle, size_t* out);
AOTITorchError torch_list_get_item(StableListHandle, size_t index, StableIValue* out);
AOTITorchError torch_delete_list(StableListHandle);

AOTITorchError aoti_torch_delete_tensor_object(AtenTensorHandle);
AOTITorchError aoti_torch_get_dim(AtenTensorHandle, int64_t* out);
AOTITorchError aoti_torch_get_numel(AtenTensorHandle, int64_t* out);
AOTITorchError aoti_torch_get_sizes(AtenTensorHandle, int64_t** borrowed);
AOTITorchError aoti_torch_get_strides(AtenTensorHandle, int64_t** borrowed);
AOTITorchError aoti_torch_get_dtype(AtenTensorHandle, int32_t* out);
AOTITorchError aoti_torch_get_device_type(AtenTensorHandle, int32_t* out);
AOTITorchError aoti_torch_get_device_index(AtenTensorHandle, int32_t* out);
AOTITorchError torch_get_mutable_data_ptr(AtenTensorHandle, void** borrowed);
AOTITorchError torch_get_const_data_ptr(AtenTensorHandle, const void** borrowed);
AOTITorchError aoti_torch_empty_strided(int64_t dim, const int64_t* sizes, const int64_t* strides, int32_t dtype,
                                        int32_t device_type, int32_t device_index, AtenTensorHandle* out);
AOTITorchError torch_parallel_for(int64_t begin, int64_t end, int64_t grain, void (*)(int64_t, int64_t, void*), void* context);
int32_t aoti_torch_dtype_float32();
int32_t aoti_torch_dtype_float64();
int32_t aoti_torch_dtype_float16();
int32_t aoti_torch_dtype_bfloat16();
}

namespace fastgan {

constexpr uint64_t kTorch210 = (2ull << 56) | (10ull << 48);  // arguments are passed as torch 2.10 defined them

inline void check(bool condition, const char* message) {
    if (!condition) throw std::runtime_error(message);  // arrives in Python as a RuntimeError
}

inline void succeed(AOTITorchError error) { check(error == 0, "fastgan: a call into torch failed"); }

template <class T> T value_of(StableIValue argument) {
    T value;
    std::memcpy(&value, &argument, sizeof value);
    return value;
}

// The owner of one reference to a torch tensor.
class Tensor {
  public:
    explicit Tensor(AtenTensorHandle handle) : handle_(handle) {}
    Tensor(Tensor&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Tensor& operator=(Tensor&&) = delete;
    ~Tensor() {
        if (handle_) aoti_torch_delete_tensor_object(handle_);
    }

    int64_t dim() const { return get<int64_t>(aoti_torch_get_dim); }
    int64_t numel() const { return get<int64_t>(aoti_torch_get_numel); }
    const int64_t* sizes() const { return get<int64_t*>(aoti_torch_get_sizes); }
    const int64_t* strides() const { return get<int64_t*>(aoti_torch_get_strides); }
    int32_t dtype() const { return get<int32_t>(aoti_torch_get_dtype); }
    int32_t device_type() const { return get<int32_t>(aoti_torch_get_device_type); }
    int32_t device_index() const { return get<int32_t>(aoti_torch_get_device_index); }
    const void* data() const { return get<const void*>(torch_get_const_data_ptr); }
    void* mutable_data() const { return get<void*>(torch_get_mutable_data_ptr); }

    Tensor empty_like() const { return empty(dim(), sizes(), strides(), dtype()); }

    // Uninitialised memory of torch's allocator on the same device.
    Tensor empty(int64_t dim, const int64_t* sizes, const int64_t* strides, int32_t dtype) const {
        AtenTensorHandle out;
        succeed(aoti_torch_empty_strided(dim, sizes, strides, dtype, device_type(), device_index(), &out));
        return Tensor(out);
    }

    // Hands the reference to the caller of an op.
    StableIValue release() {
        StableIValue result = 0;
        std::memcpy(&result, &handle_, sizeof handle_);
        handle_ = nullptr;
        return result;
    }

  private:
    template <class T> T get(AOTITorchError (*getter)(AtenTensorHandle, T*)) const {
        T value;
        succeed(getter(handle_, &value));
        return value;
    }

    AtenTensorHandle handle_;
};

// An op owns its tensor arguments; an optional one comes as a pointer to an allocated value, which the op frees.
inline Tensor take_tensor(StableIValue argument) { return Tensor(value_of<AtenTensorHandle>(argument)); }

inline std::optional<Tensor> take_optional_tensor(StableIValue argument) {
    auto* boxed = value_of<StableIValue*>(argument);
    if (!boxed) return std::nullopt;
    Tensor tensor = take_tensor(*boxed);
    delete boxed;
    return tensor;
}

// Tensor[]: the op owns the list and what is in it.
inline std::vector<Tensor> take_tensors(StableIValue argument) {
    const auto list = value_of<StableListHandle>(argument);
    size_t size = 0;
    succeed(torch_list_size(list, &size));
    std::vector<Tensor> tensors;
    tensors.reserve(size);
    for (size_t i = 0; i < size; ++i) {
        StableIValue item = 0;
        succeed(torch_list_get_item(list, i, &item));
        tensors.push_back(take_tensor(item));
    }
    succeed(torch_delete_list(list));
    return tensors;
}

// Runs body(begin, end) over pieces of [0, end) on torch's own threads, so torch.set_num_threads is obeyed.
template <class Body> void parallel_for(int64_t end, int64_t grain, const Body& body) {
    auto call = [](int64_t from, int64_t to, void* context) { (*static_cast<const Body*>(context))(from, to); };
    succeed(torch_parallel_for(0, end, grain, call, const_cast<void*>(static_cast<const void*>(&body))));
}

}  // namespace fastgan
