import * as tf from '@tensorflow/tfjs';

type Save = (tensors: tf.Tensor[]) => void;

/**
 * Sum over the rows of weight * cross-entropy. The gradient is stated (softmax - target), for it is a third of the operations.
 *
 * logits [R, C], target [R, C] (rows sum to 1), weights [R, 1] -> scalar
 */
export function crossEntropy(logits: tf.Tensor2D, target: tf.Tensor2D, weights: tf.Tensor2D): tf.Scalar {
  const loss = tf.customGrad((...args) => {
    const [scores, save] = args as [tf.Tensor2D, Save];
    const probabilities = tf.softmax(scores);
    save([probabilities, target, weights]); // all of them: what is only closed over may be disposed before the backward pass
    const gradFunc = (dy: tf.Tensor, saved: tf.Tensor[]) => {
      const [p, wanted, weight] = saved as [tf.Tensor, tf.Tensor, tf.Tensor];
      return [tf.mul(tf.mul(tf.sub(p, wanted), weight), dy)];
    };
    const logs = tf.sub(scores, tf.logSumExp(scores, 1, true));
    return { value: tf.neg(tf.sum(tf.mul(tf.mul(logs, target), weights))), gradFunc };
  });
  return tf.tidy(() => loss(logits) as tf.Scalar);
}

/** Sum of the binary cross-entropies of all elements: logits and targets [R, C] -> scalar. */
export function binaryCrossEntropy(logits: tf.Tensor, target: tf.Tensor, weights?: tf.Tensor): tf.Scalar {
  const loss = tf.customGrad((...args) => {
    const [scores, save] = args as [tf.Tensor, Save];
    save(weights ? [scores, target, weights] : [scores, target]);
    const gradFunc = (dy: tf.Tensor, saved: tf.Tensor[]) => {
      const [x, wanted, weight] = saved as [tf.Tensor, tf.Tensor, tf.Tensor | undefined];
      const error = tf.mul(tf.sub(tf.sigmoid(x), wanted), dy);
      return [weight ? tf.mul(error, weight) : error];
    };
    const terms = tf.sub(tf.softplus(scores), tf.mul(scores, target));
    return { value: tf.sum(weights ? tf.mul(terms, weights) : terms), gradFunc };
  });
  return tf.tidy(() => loss(logits) as tf.Scalar);
}

/** ids [R] -> [R, classes] */
export function oneHot(ids: tf.Tensor1D, classes: number): tf.Tensor2D {
  return tf.oneHot(ids, classes, 1, 0, 'float32') as tf.Tensor2D;
}
