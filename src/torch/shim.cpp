// Calls into libtorch that tch does not offer. Tensors are passed as in tch: as pointers to at::Tensor; returned
// tensors belong to the caller. Each function returns null, or a message that belongs to the caller and is
// released with cohort_free.

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <cstdlib>
#include <cstring>
#include <exception>

namespace {

const char* message(const std::exception& error) { return strdup(error.what()); }

at::Tensor* owned(at::Tensor tensor) {
  return tensor.defined() ? new at::Tensor(std::move(tensor)) : nullptr;
}

// Sets whether libtorch may use oneDNN, until it goes out of scope.
class OneDnn {
 public:
  explicit OneDnn(bool allowed) : before_(at::globalContext().userEnabledMkldnn()) {
    at::globalContext().setUserEnabledMkldnn(allowed);
  }
  ~OneDnn() { at::globalContext().setUserEnabledMkldnn(before_); }

 private:
  bool before_;
};

}  // namespace

extern "C" {

void cohort_free(const char* text) { std::free(const_cast<char*>(text)); }

// Sets whether convolutions of float32 on a GPU may round their factors to TF32, which matrix products never do, and
// whether cuDNN times its algorithms for every new shape.
const char* cohort_set_convolutions(bool tf32, bool timed) {
  try {
    at::globalContext().setAllowTF32CuDNN(tf32);
    at::globalContext().setBenchmarkCuDNN(timed);
    at::globalContext().setAllowTF32CuBLAS(false);
    return nullptr;
  } catch (const std::exception& error) {
    return message(error);
  }
}

// geometry: stride, padding, dilation, two numbers each. out: gradients of input (or null), weight,
// bias (or null). Without oneDNN libtorch's own code computes them.
const char* cohort_convolution_backward(
    const at::Tensor* gradient,
    const at::Tensor* input,
    const at::Tensor* weight,
    const int64_t* geometry,
    int64_t groups,
    bool of_input,
    bool of_bias,
    bool with_onednn,
    at::Tensor** out) {
  const OneDnn switched(with_onednn && at::globalContext().userEnabledMkldnn());
  try {
    const int64_t none[] = {0, 0};
    const int64_t bias[] = {weight->size(0)};
    auto pair = [&](int index) { return at::IntArrayRef(geometry + 2 * index, 2); };
    auto gradients = at::convolution_backward(
        *gradient, *input, *weight, at::IntArrayRef(bias, 1), pair(0), pair(1), pair(2), false,
        at::IntArrayRef(none, 2), groups, {of_input, true, of_bias});
    out[0] = of_input ? owned(std::move(std::get<0>(gradients))) : nullptr;
    out[1] = owned(std::move(std::get<1>(gradients)));
    out[2] = of_bias ? owned(std::move(std::get<2>(gradients))) : nullptr;
    return nullptr;
  } catch (const std::exception& error) {
    return message(error);
  }
}

// out: gradients of input, weight and bias.
const char* cohort_batch_norm_backward(
    const at::Tensor* gradient,
    const at::Tensor* input,
    const at::Tensor* weight,
    const at::Tensor* mean,
    const at::Tensor* inverse_deviation,
    double eps,
    at::Tensor** out) {
  try {
    auto gradients = at::native_batch_norm_backward(
        *gradient, *input, *weight, {}, {}, *mean, *inverse_deviation, true, eps, {true, true, true});
    out[0] = owned(std::move(std::get<0>(gradients)));
    out[1] = owned(std::move(std::get<1>(gradients)));
    out[2] = owned(std::move(std::get<2>(gradients)));
    return nullptr;
  } catch (const std::exception& error) {
    return message(error);
  }
}

}  // extern "C"
