"""A drawn world of talking people, small enough to learn on a CPU.

A source like any other: it yields mp4 + wav clips. What it has beyond a real corpus is the
truth of every frame (lips, landmarks, joints, face box, identity, intensities).

    speech.utterances(split)            embedded or synthesised speech with phoneme timings
    people.Person.from_seed(seed)       what a person looks like
    source.clip(split, seed, number, frames)     one clip: a pure function of its arguments
    source.render_portrait(person, background)   one neutral frame with the face shown

Command: python -m data_pipeline.world --out DIR --clips N --split train --seed 0 --workers 2
Tests: tests/data_pipeline/world/.
"""
