"""Every feature of the answering endpoints through Python's official SDK, whole and streamed."""

from __future__ import annotations

import pytest
from openai import OpenAI

from tests.support.feature import Feature
from tests.support.features import FEATURES
from tests.support.summaries import check, streamed, whole

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.id)
def test_a_feature(client: OpenAI, feature: Feature) -> None:
    summary = whole(client, feature)
    check(feature, summary)
    assert streamed(client, feature) == summary


def test_features_have_names_of_their_own() -> None:
    assert len({feature.id for feature in FEATURES}) == len(FEATURES)
