"""What is measured of a sound, against scipy, against formulas and against tones whose answer is known."""

import numpy as np
import pytest
from scipy import signal

from habitue.encode import pitch, spectra

RATE = 16_000


def test_power_is_that_of_scipys_short_time_transform(sounds):
    sound = sounds.noise()
    window = signal.windows.hann(512, sym=False)
    peer = signal.ShortTimeFFT(window, hop=160, fs=RATE, scale_to=None)
    wanted = np.abs(peer.stft(sound.astype(np.float64), p0=0, p1=101)).T ** 2
    got = spectra.power(sound, size=512, hop=160)
    assert got.shape == (101, 257) and got.dtype == np.float32
    assert got == pytest.approx(wanted, rel=1e-3, abs=1e-4)


def test_long_sounds_are_taken_in_pieces_that_do_not_show(sounds, monkeypatch):
    sound = sounds.noise(seconds=0.5)
    whole = spectra.mel(sound, rate=RATE, size=512, hop=160, bands=10, low=50, high=8_000)
    monkeypatch.setattr(spectra, "CHUNK", 7)
    assert spectra.mel(sound, rate=RATE, size=512, hop=160, bands=10, low=50, high=8_000) == pytest.approx(whole)


def test_a_band_is_a_triangle_in_mel_that_sums_to_one():
    weights = spectra.filters(RATE, 512, 20, 0.0, 8_000.0)
    assert weights.shape == (257, 20) and weights.sum(axis=0) == pytest.approx(np.ones(20))
    mel = 2595 * np.log10(1 + 8_000 / 700)
    middles = 700 * (10 ** (np.arange(1, 21) * mel / 21 / 2595) - 1)
    assert np.abs(weights.argmax(axis=0) * RATE / 512 - middles).max() <= RATE / 512


def test_a_band_narrower_than_a_bin_still_hears_something():
    weights = spectra.filters(44_100, 2_048, 96, 0.0, 22_050.0)
    assert (weights.sum(axis=0) > 0.999).all()


def test_a_tone_is_in_the_band_of_its_pitch(sounds):
    bands = spectra.mel(sounds.tone(1_000), rate=RATE, size=512, hop=160, bands=40, low=0, high=8_000)
    mel = 2595 * np.log10(1 + np.array([1_000, 8_000]) / 700)
    assert abs(bands[50].argmax() - (mel[0] / mel[1] * 41 - 1)) <= 1


def test_decibels_have_a_floor():
    assert spectra.decibels(np.array([1.0, 0.01, 0.0])).tolist() == [0.0, -20.0, -100.0]


def test_the_cepstrum_of_a_cosine_is_one_coefficient():
    bands = np.cos(np.pi * 3 * (np.arange(40) + 0.5) / 40)[None]
    got = spectra.cepstrum(bands, kept=6)[0]
    assert got == pytest.approx([0, 0, 0, np.sqrt(20), 0, 0], abs=1e-6)


def test_slopes_are_those_of_a_line():
    line = np.column_stack([np.arange(10.0) * 3, np.ones(10)])
    got = spectra.slopes(line)
    assert got[2:-2] == pytest.approx(np.tile([3.0, 0.0], (6, 1))) and got[0, 0] < 3


def test_white_noise_has_its_centroid_in_the_middle_and_is_flat(sounds):
    told = spectra.shape(spectra.power(sounds.noise(seconds=3), size=512, hop=160), rate=RATE).mean(axis=0)
    assert told[0] == pytest.approx(4_000, rel=0.01)
    assert told[1] == pytest.approx(8_000 / np.sqrt(12), rel=0.02)
    assert told[2] == pytest.approx(0.85 * 8_000, rel=0.02)
    assert told[3] == pytest.approx(np.exp(-np.euler_gamma), abs=0.03), "geometric over arithmetic mean of exponentials"


def test_a_tone_has_its_centroid_at_its_pitch_and_is_not_flat(sounds):
    told = spectra.shape(spectra.power(sounds.tone(2_000), size=512, hop=160), rate=RATE)[20:80].mean(axis=0)
    assert told[0] == pytest.approx(2_000, abs=15) and told[1] < 120 and told[3] < 1e-3
    assert told[2] == pytest.approx(2_000, abs=RATE / 512) and told[4] == pytest.approx(0, abs=0.05)


def test_flux_is_where_the_sound_changes(sounds):
    both = np.concatenate([sounds.tone(500), sounds.tone(3_000)])
    flux = spectra.shape(spectra.power(both, size=512, hop=160), rate=RATE)[:, 4]
    assert abs(int(flux.argmax()) - 100) <= 2 and flux[0] == 0


def test_silence_has_no_shape():
    told = spectra.shape(spectra.power(np.zeros(4_000, dtype=np.float32), size=512, hop=160), rate=RATE)
    assert (told == 0).all()


def test_contrast_is_high_where_a_tone_stands_alone(sounds):
    hum = sounds.noise(loud=0.001)
    tone = spectra.contrast(spectra.power(sounds.tone(1_200) + hum, size=512, hop=160), rate=RATE)[20:80].mean(axis=0)
    flat = spectra.contrast(spectra.power(hum, size=512, hop=160), rate=RATE)[20:80].mean(axis=0)
    assert tone.shape == (7,) and tone[3] - flat[3] > 15, "800 to 1,600 Hz is the fourth part"


@pytest.mark.parametrize(("hertz", "place"), [(440, 9), (880, 9), (261.63, 0), (1_046.5, 0), (311.13, 3)])
def test_chroma_names_the_note_in_any_octave(hertz, place, sounds):
    power = spectra.power(sounds.tone(hertz), size=4_096, hop=1_024)
    told = spectra.chroma(power, rate=RATE)[4:-4].mean(axis=0)
    assert told.argmax() == place and told[place] > 0.9


@pytest.mark.parametrize("hertz", [82.4, 110.0, 220.0, 331.7, 440.0])
def test_the_pitch_of_a_tone_is_found_to_a_hertz(hertz, sounds):
    found = pitch.track(sounds.tone(hertz), rate=RATE, hop=160)
    assert found.size == 101
    inner = found[6:-6]
    assert np.isfinite(inner).all() and np.abs(inner - hertz).max() < 0.003 * hertz


def test_the_pitch_of_a_voice_like_sound_is_its_fundamental(sounds):
    sound = sum(sounds.tone(150 * k, loud=0.2 / k) for k in (2, 3, 4, 5))  # the fundamental itself is missing
    found = pitch.track(sound, rate=RATE, hop=160)[6:-6]
    assert np.median(found) == pytest.approx(150, abs=1)


def test_a_gliding_pitch_is_followed(sounds):
    at = np.arange(RATE) / RATE
    glide = np.sin(2 * np.pi * (100 * at + 50 * at**2)).astype(np.float32)  # 100 Hz to 200 Hz
    found = pitch.track(glide, rate=RATE, hop=160)[10:90]
    assert np.abs(found - (100 + np.arange(10, 90))).max() < 4


def test_noise_and_silence_have_no_pitch(sounds):
    assert np.isnan(pitch.track(sounds.noise(), rate=RATE, hop=160)).mean() > 0.97
    assert np.isnan(pitch.track(np.zeros(8_000, dtype=np.float32), rate=RATE, hop=160)).all()


def test_pitch_is_the_same_in_pieces(sounds, monkeypatch):
    sound = sounds.tone(200) + sounds.noise(loud=0.01)
    whole = pitch.track(sound, rate=RATE, hop=160)
    monkeypatch.setattr(pitch, "CHUNK", 9)
    assert np.allclose(pitch.track(sound, rate=RATE, hop=160), whole, equal_nan=True)
