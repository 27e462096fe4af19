// The operations, as Python calls them.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <tuple>
#include <vector>

namespace mmlocalmamba {

// With dt_weight (directions, channels, rank), dt is of low rank: (..., directions, rank). With log_A, A is ln(-A).
std::tuple<at::Tensor, at::Tensor> scan_forward(const at::Tensor& u, const at::Tensor& dt, const at::Tensor& A,
                                                const at::Tensor& B, const at::Tensor& C, const at::Tensor& D,
                                                const at::Tensor& dt_bias, const at::Tensor& order, int64_t num_tokens,
                                                bool keep_states, const std::optional<at::Tensor>& dt_weight,
                                                bool log_A);
std::vector<at::Tensor> scan_backward(const at::Tensor& grad_y, const at::Tensor& u, const at::Tensor& dt,
                                      const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
                                      const at::Tensor& D, const at::Tensor& dt_bias, const at::Tensor& order,
                                      const at::Tensor& states, int64_t num_tokens,
                                      const std::optional<at::Tensor>& dt_weight, bool log_A);

at::Tensor conv_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        const at::Tensor& order);
std::vector<at::Tensor> conv_backward(const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor& weight,
                                      const at::Tensor& bias, const at::Tensor& order);

at::Tensor conv2d_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
std::vector<at::Tensor> conv2d_backward(const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor& weight,
                                        const at::Tensor& bias);

// The weights of SCAttn's channel gate: of its norm, of global_reduce and of channel_select, each with its bias.
using GateWeights = std::vector<at::Tensor>;

// norm: weight and bias of a LayerNorm of the sum, which z then gates last; or none, and z gates first.
std::tuple<at::Tensor, at::Tensor, at::Tensor> merge_forward(const at::Tensor& y, const std::optional<at::Tensor>& z,
                                                             const GateWeights& weights, double eps,
                                                             const std::vector<at::Tensor>& norm, double norm_eps);
std::vector<at::Tensor> merge_backward(const at::Tensor& grad_out, const at::Tensor& y,
                                       const std::optional<at::Tensor>& z, const GateWeights& weights,
                                       const at::Tensor& mean, const at::Tensor& gates, double eps,
                                       const std::vector<at::Tensor>& norm, double norm_eps);

// The forward gives normed and the new residual, the backward the gradients of hidden + residual and of weight.
std::tuple<at::Tensor, at::Tensor> add_norm_forward(const at::Tensor& hidden, const std::optional<at::Tensor>& residual,
                                                    const at::Tensor& weight, double eps,
                                                    const std::optional<at::Tensor>& cos,
                                                    const std::optional<at::Tensor>& sin);
std::tuple<at::Tensor, at::Tensor> add_norm_backward(const at::Tensor& grad_normed, const at::Tensor& grad_residual,
                                                     const at::Tensor& residual, const at::Tensor& weight, double eps,
                                                     const std::optional<at::Tensor>& cos,
                                                     const std::optional<at::Tensor>& sin);

}  // namespace mmlocalmamba
