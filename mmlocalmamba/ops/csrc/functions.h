// Every function of the library: its name, and its arguments as "tensors | numbers | outputs".
//
// Outputs are tensors that the caller has allocated. A question mark marks a tensor that may be absent. The host reads
// its arguments by these names, and the description that Python packs them by is made of the same text.
#pragma once

#define MMLOCALMAMBA_FUNCTIONS(FUNCTION)                                                                           \
  FUNCTION(scan_forward, "u dt A B C D dt_bias order dt_weight? | log_A | y states?")                              \
  FUNCTION(scan_backward,                                                                                          \
           "grad_y u dt A B C D dt_bias order dt_weight? states | log_A | "                                        \
           "grad_u grad_dt grad_A grad_B grad_C grad_D grad_dt_bias grad_dt_weight?")                              \
  FUNCTION(causal_conv_forward, "x weight bias order | | y")                                                       \
  FUNCTION(causal_conv_backward, "grad_y x weight bias order | | grad_x grad_weight grad_bias")                    \
  FUNCTION(depthwise_conv_forward, "x weight bias | | y")                                                          \
  FUNCTION(depthwise_conv_backward, "grad_y x weight bias | | grad_x grad_weight grad_bias")                       \
  FUNCTION(gate_and_merge_forward,                                                                                 \
           "y z norm_weight norm_bias reduce_weight reduce_bias select_weight select_bias | eps | out mean gates") \
  FUNCTION(gate_and_merge_grad_gates, "grad_out y z | | grad_gates")                                               \
  FUNCTION(gate_and_merge_backward, "grad_out y z gates grad_mean | eps | grad_y grad_z")                          \
  FUNCTION(merge_and_normalise_forward,                                                                            \
           "y z norm_weight norm_bias reduce_weight reduce_bias select_weight select_bias out_norm_weight "        \
           "out_norm_bias | eps out_eps | out mean gates")                                                         \
  FUNCTION(merge_and_normalise_grad_gates,                                                                         \
           "grad_out y z gates out_norm_weight out_norm_bias | out_eps | "                                         \
           "grad_sum grad_z grad_gates grad_out_norm_weight grad_out_norm_bias")                                   \
  FUNCTION(merge_and_normalise_backward, "grad_sum y gates grad_mean | eps | grad_y")                              \
  FUNCTION(add_norm_forward, "hidden residual? weight cos? sin? | eps | normed new_residual")                      \
  FUNCTION(add_norm_backward, "grad_normed grad_residual residual weight cos? sin? | eps | grad_sum grad_weight")  \
  FUNCTION(exp2, "x | | y")                                                                                        \
  FUNCTION(softplus, "x | | y slope")
