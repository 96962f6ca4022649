/* The yardstick: a scaled forward pass alone, K states known to the compiler, table and uint8 index. */
#include <math.h>
#include <stdint.h>
#ifndef K
#define K 2
#endif
double forward_pass(const double *initial, const double *transition, const double *table, const uint8_t *index,
                    int64_t steps) {
  double alpha[K], next[K], log_likelihood = 0.0, product = 1.0;
  for (int k = 0; k < K; k++) alpha[k] = initial[k];
  for (int64_t t = 0; t < steps; t++) {
    const double *row = table + K * index[t];
    double scale = 0.0;
    for (int k = 0; k < K; k++) {
      alpha[k] *= row[k];
      scale += alpha[k];
    }
    double inverse = 1.0 / scale;
    product *= scale;
    if (product < 1e-200) {
      log_likelihood += log(product);
      product = 1.0;
    }
    for (int j = 0; j < K; j++) {
      double sum = 0.0;
      for (int i = 0; i < K; i++) sum += alpha[i] * transition[K * i + j];
      next[j] = sum * inverse;
    }
    for (int k = 0; k < K; k++) alpha[k] = next[k];
  }
  return log_likelihood + log(product);
}
