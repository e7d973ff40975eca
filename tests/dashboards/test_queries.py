"""The forms of queries: both storages of histograms, and existing labels only."""

from __future__ import annotations

import re

import pytest
from inline_snapshot import snapshot

from dashboards.src.queries import (
    BOARD,
    INSTANCE,
    JOB,
    RULES,
    InvalidQueryError,
    by_gpu,
    by_plain_model,
    highest,
    last_time,
    level,
    not_nan,
    share,
    sum_of_others,
    top,
    top_by,
)
from dashboards.src.vocabulary import BY_MODEL, BY_SERVER, GENAI, RANK, TOKENS
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows

DURATION = GENAI.inference_duration
START = GENAI.time_to_first_chunk


def test_a_quantile_reads_classic_buckets_or_one_native_series() -> None:
    assert RULES.quantile(0.9, START, by=(names.REQUEST_MODEL,)) == snapshot(
        'histogram_quantile(0.9, sum by (le, gen_ai_request_model) (rate(gen_ai_client_operation_time_to_first_chunk_seconds_bucket{gen_ai_provider_name="ollama"}[5m])) or sum by (gen_ai_request_model) (rate(gen_ai_client_operation_time_to_first_chunk_seconds{gen_ai_provider_name="ollama"}[5m])))'
    )


def test_a_count_reads_classic_series_or_that_of_the_native_one() -> None:
    assert RULES.count(START) == snapshot(
        '(sum(rate(gen_ai_client_operation_time_to_first_chunk_seconds_count{gen_ai_provider_name="ollama"}[5m])) or histogram_count(sum(rate(gen_ai_client_operation_time_to_first_chunk_seconds{gen_ai_provider_name="ollama"}[5m]))))'
    )


def test_a_sum_reads_classic_series_or_that_of_the_native_one() -> None:
    assert RULES.sum(TOKENS, where={names.TOKEN_TYPE: '="input"'}) == snapshot(
        '(sum(rate(gen_ai_client_token_usage_sum{gen_ai_provider_name="ollama",gen_ai_token_type="input"}[5m])) or histogram_sum(sum(rate(gen_ai_client_token_usage{gen_ai_provider_name="ollama",gen_ai_token_type="input"}[5m]))))'
    )


def test_a_share_above_a_bound_reads_its_bucket_or_the_fraction_of_the_native_series() -> None:
    assert RULES.over("1h").share_above(2.56, START) == snapshot(
        '(1 - sum(rate(gen_ai_client_operation_time_to_first_chunk_seconds_bucket{gen_ai_provider_name="ollama",le="2.56"}[1h])) / sum(rate(gen_ai_client_operation_time_to_first_chunk_seconds_count{gen_ai_provider_name="ollama"}[1h])) or 1 - histogram_fraction(-inf, 2.56, sum(rate(gen_ai_client_operation_time_to_first_chunk_seconds{gen_ai_provider_name="ollama"}[1h]))))'
    )


def test_a_share_over_the_whole_window_includes_new_series() -> None:
    day = RULES.over("1d")
    rate, total = day.share_above(2.56, START), day.share_above_total(2.56, START)
    assert rate.count("rate(") == 3
    assert "rate(" not in total
    assert total.count("last_over_time(") > 3


def test_a_share_above_a_value_between_bounds_is_refused() -> None:
    with pytest.raises(InvalidQueryError, match=r"no bucket bound 2\.5"):
        RULES.share_above(2.5, START)


def test_a_share_above_an_integer_bound_reads_both_forms_of_the_bucket() -> None:
    """Prometheus writes the bounds that it scrapes as 64.0 and 1.048576e+06."""
    assert 'le=~"64|64[.]0"' in RULES.share_above(64.0, TOKENS)
    assert 'le=~"1048576|1[.]048576e[+]06"' in RULES.share_above(1048576.0, TOKENS)


def test_a_heat_map_has_a_series_for_each_bound_of_either_storage() -> None:
    assert RULES.heat_map(TOKENS, bounds=(1.0, 1024.0)) == snapshot(
        'sum by (le) (rate(gen_ai_client_token_usage_bucket{gen_ai_provider_name="ollama",le=~"1|1[.]0|1024|1024[.]0|[+]Inf"}[5m])) or (label_replace(histogram_fraction(-inf, 1, sum(rate(gen_ai_client_token_usage{gen_ai_provider_name="ollama"}[5m]))) >= 0 or vector(0), "le", "1", "", "") or label_replace(histogram_fraction(-inf, 1024, sum(rate(gen_ai_client_token_usage{gen_ai_provider_name="ollama"}[5m]))) >= 0 or vector(0), "le", "1024", "", "") or label_replace(vector(1), "le", "+Inf", "", "")) * on () group_left () (histogram_count(sum(rate(gen_ai_client_token_usage{gen_ai_provider_name="ollama"}[5m]))) unless sum(rate(gen_ai_client_token_usage_count{gen_ai_provider_name="ollama"}[5m])))'
    )


def test_a_heat_map_shows_all_bounds_of_its_histogram() -> None:
    assert DURATION.buckets is not None
    query = BOARD.heat_map(DURATION)
    assert query.count("label_replace(") == len(DURATION.buckets) + 1
    assert len(query) < 7_000


def test_a_heat_map_of_a_value_between_bounds_is_refused() -> None:
    with pytest.raises(InvalidQueryError, match=r"no bucket bound 2\.5"):
        RULES.heat_map(START, bounds=(2.56, 2.5))


def test_a_total_includes_the_whole_value_of_new_series() -> None:
    assert RULES.over("1h").total(rows.LOG_DROPPED) == snapshot(
        "sum(increase(ollama_client_replay_log_dropped_total[1h]) and last_over_time(ollama_client_replay_log_dropped_total[1d] offset 1h) or (last_over_time(ollama_client_replay_log_dropped_total[1h]) unless last_over_time(ollama_client_replay_log_dropped_total[1d] offset 1h)) and resets(ollama_client_replay_log_dropped_total[1h]) == 0 or increase(ollama_client_replay_log_dropped_total[1h]))"
    )


def test_appeared_is_the_increase_or_the_whole_value_of_a_new_series() -> None:
    assert RULES.appeared(rows.LOG_DROPPED, by=(JOB,)) == snapshot(
        "sum by (job) (increase(ollama_client_replay_log_dropped_total[5m]) > 0 or ollama_client_replay_log_dropped_total unless present_over_time(ollama_client_replay_log_dropped_total[5m] offset 5m))"
    )
    assert RULES.count_appeared(rows.SDK_EXPORT_DURATION) == snapshot(
        "(sum(increase(otel_sdk_exporter_operation_duration_seconds_count[5m]) > 0 or otel_sdk_exporter_operation_duration_seconds_count unless present_over_time(otel_sdk_exporter_operation_duration_seconds_count[5m] offset 5m)) or sum(histogram_count(increase(otel_sdk_exporter_operation_duration_seconds[5m])) > 0 or histogram_count(otel_sdk_exporter_operation_duration_seconds) unless present_over_time(otel_sdk_exporter_operation_duration_seconds[5m] offset 5m)))"
    )


def test_a_server_reported_by_two_versions_of_an_app_is_one() -> None:
    assert "group_left () max by (job, instance, server_address, server_port) (timestamp(" in (
        RULES.gauge(rows.GPU_SHARE, by=(names.MODEL_NAME,), how="max")
    )


def test_a_gauge_that_scraping_names_differently_is_read_under_both_names() -> None:
    by = (names.HARDWARE_ID,)
    assert BOARD.gauge(rows.GPU_UTILIZATION, by=by, how="max") == snapshot(
        'max by (hw_id) (hw_gpu_utilization_ratio{job=~"$job"} or hw_gpu_utilization{job=~"$job"})'
    )
    assert RULES.gauge_over_time(
        rows.GPU_UTILIZATION, function="avg", by=by, how="max", offset="1h"
    ) == snapshot(
        "max by (hw_id) (avg_over_time(hw_gpu_utilization_ratio[5m] offset 1h) or avg_over_time(hw_gpu_utilization[5m] offset 1h))"
    )


def test_counts_of_several_processes_for_one_server_are_not_summed() -> None:
    query = RULES.watched_increase(rows.LOADS, by=(names.MODEL_NAME,))
    assert query == snapshot(
        "max by (ollama_model_name) (sum by (ollama_model_name, job, instance) (increase(ollama_model_loads_total[5m])))"
    )


def test_a_board_filters_by_the_variables_that_the_metric_has_labels_for() -> None:
    assert BOARD.rate(rows.PHASE_TIME) == snapshot(
        'sum(rate(ollama_client_phase_time_seconds_total{job=~"$job",gen_ai_request_model=~"$model",server_address=~"$server",server_port=~"$port",gen_ai_operation_name=~"$operation",gen_ai_provider_name="ollama"}[$__rate_interval]))'
    )
    assert BOARD.gauge(rows.SERVER_UP, how="max") == snapshot(
        'max(ollama_server_up{job=~"$job",server_address=~"$server",server_port=~"$port"})'
    )


def test_sums_over_processes_count_those_that_still_report() -> None:
    assert RULES.gauge(rows.LOG_PENDING, by=(JOB,)) == snapshot(
        "sum by (job) (ollama_client_replay_log_pending and time() - timestamp(ollama_client_replay_log_pending) < 150)"
    )
    assert "< 2.5 * $__interval_ms / 1000)" in BOARD.gauge(rows.ACTIVE_REQUESTS)
    assert "time() - timestamp(" in RULES.gauge_over_time(rows.ACTIVE_REQUESTS, function="avg")
    assert "time()" not in RULES.gauge(rows.SERVER_UP)


def test_a_selected_model_matches_with_the_tag_latest() -> None:
    assert 'ollama_model_name=~"($model)(:latest)?"' in BOARD.gauge(rows.GPU_SHARE)


def test_the_selected_server_does_not_filter_self_metrics_of_the_sdk() -> None:
    assert BOARD.rate(rows.SDK_SPANS_EXPORTED) == snapshot(
        'sum(rate(otel_sdk_exporter_span_exported_total{job=~"$job"}[$__rate_interval]))'
    )


def test_the_selected_operation_does_not_filter_model_management() -> None:
    assert "$operation" not in BOARD.rate(rows.TRANSFER_SIZE)
    assert "$operation" not in BOARD.count(rows.MANAGEMENT_DURATION)
    assert "$operation" in BOARD.gauge(rows.ACTIVE_REQUESTS)


@pytest.mark.parametrize("label", [names.REQUEST_MODEL, names.OUTCOME, "model"])
def test_a_label_that_the_metric_lacks_is_refused(label: str) -> None:
    with pytest.raises(InvalidQueryError, match=r"ollama\.server\.up has no label"):
        RULES.gauge(rows.SERVER_UP, by=(label,))
    with pytest.raises(InvalidQueryError, match=r"ollama\.server\.up has no label"):
        RULES.gauge(rows.SERVER_UP, where={label: '="x"'})


def test_app_and_process_are_labels_of_everything() -> None:
    assert (
        RULES.gauge(rows.SERVER_UP, by=(JOB, INSTANCE))
        == "sum by (job, instance) (ollama_server_up)"
    )


def test_le_is_a_label_of_histograms_only() -> None:
    with pytest.raises(InvalidQueryError, match="has no label 'le'"):
        RULES.gauge(rows.SERVER_UP, by=("le",))


def test_a_query_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(InvalidQueryError, match="is a histogram; this query needs a counter"):
        RULES.rate(DURATION)
    with pytest.raises(InvalidQueryError, match="is a gauge; this query needs a histogram"):
        RULES.quantile(0.9, rows.GPU_SHARE)
    with pytest.raises(InvalidQueryError, match="is a gauge; this query needs a histogram"):
        RULES.count(rows.GPU_SHARE)
    with pytest.raises(
        InvalidQueryError, match="is a counter; this query needs a gauge or updowncounter"
    ):
        RULES.gauge(rows.PHASE_TIME)


def test_a_share_is_0_without_the_part_and_nothing_without_the_whole() -> None:
    assert share("a", "b") == "(a or b * 0) / (b > 0)"


def test_a_model_is_the_same_with_and_without_latest() -> None:
    assert highest(by_plain_model("a", names.MODEL_NAME)) == snapshot(
        'max by (model) (label_replace(a, "model", "$1", "ollama_model_name", "(.+?)(:latest)?"))'
    )


def test_a_level_counts_the_bounds_that_are_reached() -> None:
    assert level("a or b", (0.5, 2)) == "(((a or b) >= bool 0.5) + ((a or b) >= bool 2))"


def test_a_gpu_is_named_by_the_end_of_its_uuid_and_no_two_are_merged() -> None:
    usage = RULES.gauge(rows.GPU_POWER, by=(names.HARDWARE_ID, names.HARDWARE_NAME), how="max")
    assert by_gpu(usage) == snapshot(
        'max by (gpu, hw_id, hw_name) (label_replace(max by (hw_id, hw_name) (hw_power_watts), "gpu", "$1", "hw_id", ".*?(.{1,4})"))'
    )


def test_a_last_time_is_in_milliseconds_as_grafana_takes_it() -> None:
    assert last_time("up == 1", within="1h", every="1m") == (
        "1000 * max_over_time(timestamp(up == 1)[1h:1m])"
    )


def test_a_rank_by_samples_is_the_same_for_the_whole_graph() -> None:
    assert RULES.at_end().samples(rows.GPU_SHARE, by=(names.MODEL_NAME,)) == snapshot(
        "max by (ollama_model_name) (count_over_time(ollama_model_gpu_share[5m] @ end()))"
    )


def test_a_mean_is_the_sum_by_the_number_of_records() -> None:
    by = (JOB,)
    assert RULES.mean(START, by=by) == f"({RULES.sum(START, by=by)} / {RULES.count(START, by=by)})"
    assert RULES.mean_total(TOKENS) == f"({RULES.sum_total(TOKENS)} / {RULES.count_total(TOKENS)})"


def test_a_table_has_no_nan() -> None:
    assert not_nan("a or b") == "((a or b) >= -inf)"


def test_every_series_of_a_rank_is_read_at_the_end() -> None:
    hour = RULES.over("1h").at_end()
    for query in (
        *(hour.rate(rows.LOG_DROPPED), hour.increase(rows.LOG_DROPPED)),
        *(hour.total(rows.LOG_DROPPED), hour.appeared(rows.LOG_DROPPED)),
        *(hour.count_total(START), hour.quantile_total(0.9, START), hour.heat_map(START)),
        *(hour.mean(START), hour.share_above(2.56, START), hour.count_appeared(START)),
        *(hour.gauge(rows.GPU_UTILIZATION), hour.gauge(rows.GPU_SHARE)),
        hour.gauge_over_time(rows.ACTIVE_REQUESTS, function="avg"),
        hour.gauge_over_time(rows.GPU_UTILIZATION, function="avg", offset="1h"),
    ):
        followed_by = re.findall(r"\b(?:ollama|gen_ai|hw)_\w+(?:{[^}]*})?(?:\[\w+\])?(.{8})", query)
        assert followed_by
        assert set(followed_by) == {" @ end()"}, query


def test_the_top_of_a_graph_is_chosen_once() -> None:
    rank = RANK.rate(rows.PHASE_TIME, by=BY_MODEL)
    assert top_by(5, "a or b", rank=rank, by=BY_MODEL) == snapshot(
        '(a or b) and on (gen_ai_request_model) topk(5, sum by (gen_ai_request_model) (rate(ollama_client_phase_time_seconds_total{job=~"$job",gen_ai_request_model=~"$model",server_address=~"$server",server_port=~"$port",gen_ai_operation_name=~"$operation",gen_ai_provider_name="ollama"}[$__range] @ end())))'
    )
    assert top(5, "a") == "topk(5, a)"


def test_all_that_is_not_at_the_top_is_one_series() -> None:
    assert sum_of_others(3, "a", rank="b", by=BY_SERVER) == snapshot(
        "sum((a) unless on (server_address, server_port) topk(3, b))"
    )
