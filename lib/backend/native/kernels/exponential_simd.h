// e^x for x <= 0, to 2 units in the last place: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes, expf). 0 below -88; a NaN stays one.
static inline Floats Exponential(Floats exponent) {
  const Floats least = Everywhere(-88.0f), shift = Everywhere(12582912.0f);
  const Floats x = exponent < least ? least : exponent;
  const Floats n = (x * Everywhere(1.44269504f) + shift) - shift;  // to nearest
  const Floats r = MultiplyAdd(n, Everywhere(2.12194440e-4f), MultiplyAdd(n, Everywhere(-0.693359375f), x));
  Floats p = Everywhere(1.9875691500e-4f);
  p = MultiplyAdd(p, r, Everywhere(1.3981999507e-3f));
  p = MultiplyAdd(p, r, Everywhere(8.3334519073e-3f));
  p = MultiplyAdd(p, r, Everywhere(4.1665795894e-2f));
  p = MultiplyAdd(p, r, Everywhere(1.6666665459e-1f));
  p = MultiplyAdd(p, r, Everywhere(5.0000001201e-1f));
  p = MultiplyAdd(p * r, r, r + Everywhere(1.0f));
  const Words bits = (Words)(__builtin_convertvector(n, Lanes) + 127) << 23;
  Floats power;
  __builtin_memcpy(&power, &bits, sizeof power);
  return p * power;
}
