import * as tf from '@tensorflow/tfjs';
import { type Activation, activation } from './activation';
import { Linear } from './linear';
import type { Parameters } from './parameters';

/** LLaVA-1.5's two-layer projector (Liu et al. 2023, https://arxiv.org/abs/2310.03744; transformers' `LlavaMultiModalProjector`). */
export class Projector {
  private readonly linear1: Linear;
  private readonly linear2: Linear;
  private readonly activation: Activation;

  constructor(parameters: Parameters, visionWidth: number, textWidth: number, options: { activation: string; bias: boolean }) {
    this.linear1 = new Linear(parameters.at('linear_1'), visionWidth, textWidth, options);
    this.linear2 = new Linear(parameters.at('linear_2'), textWidth, textWidth, options);
    this.activation = activation(options.activation);
  }

  /** Features [T, C] -> visual tokens [T, D] */
  apply(features: tf.Tensor2D): tf.Tensor2D {
    return tf.tidy(() => this.linear2.apply(this.activation(this.linear1.apply(features))));
  }
}
