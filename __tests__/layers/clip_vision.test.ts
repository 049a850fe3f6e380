import * as tf from '@tensorflow/tfjs';
import { ClipVision, type ClipVisionShape, disposeVisionValues } from '../../layers/clip_vision';
import { Projector } from '../../layers/projector';
import { BACKENDS, useBackend, withoutLeaks } from '../support/backends';
import { expectClose } from '../support/compare';
import { HeldParameters } from '../support/held_parameters';
import { channelsLast, type Recorded, RecordedFile, readJson } from '../support/recorded';

interface Config {
  readonly vision_config: ClipVisionShape;
  readonly text_config: { readonly hidden_size: number };
  readonly projector_hidden_act: string;
}

/** quick-GELU and GELU, the smaller one on the slow backend too; the recorded names of the default case carry a prefix in one of the two. */
const MODELS = [
  { directory: 'tiny-llava-hf', prefix: '' },
  { directory: 'gqa', prefix: 'default.' },
] as const;

describe.each(BACKENDS)('CLIP on %s', (backend) => {
  describe.each(MODELS.filter((model) => backend === 'wasm' || model.directory === 'gqa'))('$directory', ({ directory, prefix }) => {
    const config = readJson<Config>(directory, 'config.json');
    const weights = new RecordedFile(directory, 'model.safetensors');
    const reference = new RecordedFile(directory, 'reference.safetensors');
    const recorded = (name: string): Recorded => reference.get(`${prefix}${name}`);
    const count = config.vision_config.num_hidden_layers;
    let parameters: HeldParameters;
    let vision: ClipVision;
    let projector: Projector;
    let pixels: tf.Tensor4D;

    beforeAll(async () => {
      await useBackend(backend);
      parameters = new HeldParameters((name) => weights.get(name));
      vision = new ClipVision(parameters.at('vision_tower'), config.vision_config);
      projector = new Projector(parameters.at('multi_modal_projector'), config.vision_config.hidden_size, config.text_config.hidden_size, {
        activation: config.projector_hidden_act,
        bias: true,
      });
      pixels = channelsLast(reference.get('pixel_values'), 0, 1);
    });
    afterAll(() => {
      parameters.dispose();
      pixels.dispose();
    });

    it('has transformers’ states after every block, and leaves no tensor behind', async () => {
      await withoutLeaks(async () => {
        let states = vision.embed(pixels);
        await expectClose(states, recorded('encoder.hidden_states.0'), 'after the first norm');
        for (const [k, block] of vision.blocks.entries()) {
          const { hiddenStates, values } = block.apply(states, vision.segments(1));
          expect(values).toEqual([]);
          states.dispose();
          states = hiddenStates;
          await expectClose(states, recorded(`encoder.hidden_states.${k + 1}`), `after block ${k}`);
        }
        states.dispose();
      });
    });

    it('hands over the class token’s attention and the attention received, as transformers’ maps have them', async () => {
      await withoutLeaks(async () => {
        for (const rows of ['class', 'received'] as const) {
          let states = vision.embed(pixels);
          for (const [k, block] of vision.blocks.entries()) {
            const { hiddenStates, values } = block.apply(states, vision.segments(1), { reads: { [rows]: true } });
            states.dispose();
            states = hiddenStates;
            const map = recorded(`encoder.attentions.${k}`); // [1, heads, 1 + N, 1 + N]
            const expected = tf.tidy(() => {
              const all = tf.tensor(map.values, [...map.shape]).reshape<tf.Tensor3D>(map.shape.slice(-3) as [number, number, number]);
              const asked = rows === 'class' ? tf.slice(all, [0, 0, 1], [-1, 1, -1]) : tf.slice(all, [0, 0, 1], [-1, -1, -1]);
              return tf.mean(asked, 1);
            });
            expect(values.map(Object.keys)).toEqual([[rows]]);
            await expectClose(values[0]?.[rows] as tf.Tensor, expected, `${rows} attention of block ${k}`);
            disposeVisionValues(values);
            expected.dispose();
          }
          states.dispose();
        }
      });
    });

    it('shows every intermediate under its module path, and what it shows is what was recorded', async () => {
      const seen = new Map<string, tf.Tensor>();
      const tap = (name: string, value: tf.Tensor) => void seen.set(name, tf.keep(value.clone()));
      let states = vision.embed(pixels, tap);
      for (const block of vision.blocks) states = block.apply(states, vision.segments(1), { tap }).hiddenStates;
      const paths = Array.from({ length: count }, (_, k) => `vision_tower.encoder.layers.${k}`);
      const expected = [
        'vision_tower.embeddings',
        'vision_tower.pre_layrnorm',
        ...paths.flatMap((path) => [`${path}.self_attn#probabilities`, `${path}.self_attn`, `${path}.mlp`, path]),
      ];
      expect([...seen.keys()]).toEqual(expected);
      for (const [k, path] of paths.entries()) {
        await expectClose(seen.get(path) as tf.Tensor, recorded(`encoder.hidden_states.${k + 1}`), path);
        await expectClose(seen.get(`${path}.self_attn#probabilities`) as tf.Tensor, recorded(`encoder.attentions.${k}`), `${path} probabilities`);
      }
      await expectClose(seen.get('vision_tower.pre_layrnorm') as tf.Tensor, recorded('encoder.hidden_states.0'), 'pre_layrnorm');
      tf.dispose([...seen.values()]);
    });

    it('projects the features of the block before the last to transformers’ visual tokens', async () => {
      const states = reference.tensor(`${prefix}encoder.hidden_states.${count - 1}`, recorded(`encoder.hidden_states.${count - 1}`).shape.slice(-2));
      await withoutLeaks(async () => {
        const projected = tf.tidy(() => projector.apply(tf.slice(states as tf.Tensor2D, [1, 0], [-1, -1])));
        await expectClose(projected, recorded('projected'), 'visual tokens');
        projected.dispose();
      });
      states.dispose();
    });

    it('two crops together equal each alone, also their attention', async () => {
      const run = (images: tf.Tensor4D, crops: number) => {
        const attention: tf.Tensor2D[] = [];
        let states = vision.embed(images);
        for (const block of vision.blocks) {
          const output = block.apply(states, vision.segments(crops), { reads: { class: true } });
          attention.push(...output.values.map((values) => values.class as tf.Tensor2D));
          states = output.hiddenStates;
        }
        return { states, attention };
      };
      const other = tf.tidy(() => tf.reverse(pixels, 1)) as tf.Tensor4D;
      const both = run(tf.concat([pixels, other], 0), 2);
      for (const [crop, image] of [pixels, other].entries()) {
        const alone = run(image, 1);
        const { start, length } = vision.segments(2)[crop] as { start: number; length: number };
        await expectClose(tf.slice(both.states, [start, 0], [length, -1]), alone.states, `states of crop ${crop}`);
        for (let k = 0; k < count; k++) {
          await expectClose(both.attention[2 * k + crop] as tf.Tensor, alone.attention[k] as tf.Tensor, `attention of crop ${crop}, block ${k}`);
        }
      }
    });
  });
});
