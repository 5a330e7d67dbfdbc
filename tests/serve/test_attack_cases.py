"""Attacks that a server of models must withstand, each with the tests that hold it.

The cases are numbered as in the collection that this server was built against, and named here by what is sent.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_HERE = "tests/serve"


@dataclass(frozen=True)
class Case:
    """What is sent, and the tests that show the right answer; paths are below ``tests/serve``."""

    sent: str
    tests: tuple[str, ...]


def case(sent: str, *tests: str) -> Case:
    return Case(sent, tests)


HAPROXY, PYTHON = "limits/test_haproxy.py::", "limits/test_middleware.py::"
CASES: Mapping[int, Case] = {
    1: case(
        "a body of half a million faults",
        "test_attacks.py::test_a_body_of_many_faults_is_refused_in_few_words_and_little_memory",
        "limits/test_refusals.py::test_thousands_of_faults_give_a_short_answer",
    ),
    2: case("eight of them at once", "test_attacks.py::test_eight_of_them_at_once_disturb_no_answer"),
    3: case(
        "a lone surrogate in a text",
        "inputs/test_strict_json.py::test_what_could_be_read_in_two_ways_is_refused",
        "inputs/test_signals_and_texts.py::test_what_is_no_text_is_refused",
    ),
    4: case(
        "a record to which the model's output is NaN",
        "test_attacks.py::test_an_output_that_is_no_number_is_never_a_class",
    ),
    5: case(
        "bodies a byte every ten seconds",
        f"{HAPROXY}test_slow_bodies_take_no_place",
        f"{PYTHON}test_slow_bodies_take_no_place",
        f"{HAPROXY}test_slow_headers_are_cut",
        f"{PYTHON}test_slow_headers_are_cut",
    ),
    6: case(
        "bodies of a gigabyte while replicas are busy",
        f"{HAPROXY}test_a_body_in_chunks_is_cut_at_the_limit",
        f"{HAPROXY}test_long_uploads_take_little_memory",
        f"{PYTHON}test_a_body_in_chunks_is_cut_at_the_limit",
    ),
    7: case("more calls than the queue holds", f"{HAPROXY}test_a_queue_that_is_full_refuses_at_once"),
    8: case(
        "a body in chunks of a byte",
        f"{HAPROXY}test_small_chunks_cost_little",
        f"{PYTHON}test_one_byte_chunks_take_little_work",
    ),
    9: case(
        "two lengths of one body",
        f"{HAPROXY}test_two_ways_of_giving_a_length_cannot_smuggle_a_request",
        f"{HAPROXY}test_what_is_no_http_gets_a_fixed_short_answer",
        f"{PYTHON}test_malformed_requests_are_refused",
    ),
    10: case(
        "headers without end",
        f"{HAPROXY}test_what_is_no_http_gets_a_fixed_short_answer",
        f"{HAPROXY}test_calls_that_nobody_needs_are_refused",
        f"{PYTHON}test_endless_headers_are_cut",
    ),
    11: case(
        "a call from another machine that names localhost",
        "limits/test_hosts.py::test_a_private_service_answers_its_own_machine_alone",
        f"{HAPROXY}test_replicas_learn_from_the_proxy_alone_who_calls",
        f"{PYTHON}test_a_replica_answers_the_proxy_alone",
        f"{HAPROXY}test_nothing_but_the_service_listens_beyond_this_machine",
    ),
    12: case(
        "X-Forwarded-For: 127.0.0.1 from another machine",
        f"{HAPROXY}test_replicas_learn_from_the_proxy_alone_who_calls",
        "limits/test_hosts.py::test_a_private_service_answers_its_own_machine_alone",
    ),
    13: case(
        "X-Forwarded-For: 10.0.0.9 from this machine",
        f"{PYTHON}test_malformed_requests_are_refused",
        f"{HAPROXY}test_a_reverse_proxy_that_is_trusted_tells_who_calls",
    ),
    14: case("other names of this machine", "limits/test_hosts.py::test_all_names_of_this_machine_are_known"),
    15: case("hosts that are no names", "limits/test_hosts.py::test_a_malformed_host_is_refused"),
    16: case(
        "a call of another site's page",
        "limits/test_hosts.py::test_pages_of_other_sites_may_not_call",
        "test_attacks.py::test_json_needs_no_header_and_no_form_is_taken_for_it",
    ),
    17: case(
        "JSON without Content-Type, and as a form",
        "test_attacks.py::test_json_needs_no_header_and_no_form_is_taken_for_it",
        "test_clients.py::test_an_unchanged_client_gets_the_answers_of_the_model",
    ),
    18: case(
        "a call of each advertised version", "routers/test_description.py::test_each_advertised_version_has_paths"
    ),
    19: case(
        "parameters that are not supported",
        "test_binary_tensors.py::test_other_parameters_are_refused_and_never_ignored",
    ),
    20: case(
        "binary tensors of other lengths than they say",
        "test_binary_tensors.py::test_a_malformed_body_is_refused_at_once",
        "test_binary_tensors.py::test_texts_of_other_lengths_are_refused",
        "test_binary_tensors.py::test_nothing_is_made_of_a_tensor_before_its_size_is_checked",
    ),
    21: case(
        "shapes of 2^63 and more",
        "inputs/test_numbers.py::test_a_shape_is_whole_numbers_that_fit_the_model",
        "inputs/test_strict_json.py::test_what_could_be_read_in_two_ways_is_refused",
    ),
    22: case(
        "strings and booleans for numbers",
        "inputs/test_numbers.py::test_a_shape_is_whole_numbers_that_fit_the_model",
        "test_attacks.py::test_what_is_no_radius_is_refused",
        "test_api.py::test_an_error_says_what_is_allowed_and_not_what_was_sent",
    ),
    23: case(
        "radii at the edge of numbers",
        "test_attacks.py::test_a_radius_at_the_edge_of_numbers_proves_no_more_than_a_smaller_one",
        "test_attacks.py::test_what_is_no_radius_is_refused",
        "test_api.py::test_nothing_is_proven_of_a_record_outside_the_bounds",
    ),
    24: case("a key twice", "inputs/test_strict_json.py::test_a_body_is_refused_if_and_only_if_a_key_is_named_twice"),
    25: case(
        "UTF-16, byte order marks, and identifiers that no printer shows",
        "inputs/test_strict_json.py::test_what_could_be_read_in_two_ways_is_refused",
        "inputs/test_strict_json.py::test_an_identifier_that_would_change_a_log_is_refused",
        "test_binary_tensors.py::test_an_id_is_echoed_only_if_it_is_printable_and_short",
    ),
    26: case("deep nesting", "inputs/test_strict_json.py::test_what_could_be_read_in_two_ways_is_refused"),
    27: case(
        "X-Request-ID with a name in it",
        f"{HAPROXY}test_request_ids_that_are_no_words_are_replaced",
        f"{PYTHON}test_request_ids_that_are_no_words_are_replaced",
        f"{HAPROXY}test_calls_that_nobody_needs_are_refused",
    ),
    28: case(
        "a path with a name in it, outside the application",
        f"{HAPROXY}test_errors_of_serve_itself_come_in_our_form",
        f"{PYTHON}test_errors_of_serve_itself_come_in_our_form",
        f"{HAPROXY}test_a_service_without_replicas_is_alive_and_not_ready",
        f"{PYTHON}test_callers_cannot_say_what_only_the_proxy_knows",
    ),
    29: case(
        "a model by the name of a patient, in logs and metrics",
        f"{HAPROXY}test_the_log_holds_no_path",
        "routers/test_metrics.py::test_refusals_are_counted_by_their_reasons_and_repeat_nothing",
        "audit_log/test_log.py::test_a_line_holds_nothing_of_the_request_but_keyed_hashes",
    ),
    30: case("names that are paths", "test_attacks.py::test_a_model_is_found_by_its_very_name_alone"),
    31: case(
        "explanations for callers that have gone, then a prediction",
        "test_attacks.py::test_a_prediction_waits_for_no_explanation_and_nobody_explains_to_callers_that_have_gone",
        "test_batching.py::test_calls_whose_client_has_gone_are_not_computed",
        f"{HAPROXY}test_a_call_reaches_the_deployment_of_its_verb",
    ),
    32: case(
        "SIGSTOP to a replica",
        "test_kills.py::test_a_replica_that_hangs_gets_no_calls",
        "test_kills.py::test_a_replica_that_answers_otherwise_than_at_its_start_is_replaced",
        "test_start.py::test_a_replica_tests_all_versions_of_its_models_and_needs_none",
    ),
    33: case(
        "small PNG files of huge images",
        "inputs/test_images.py::test_a_png_that_would_cost_or_deceive_is_refused",
        "inputs/test_images.py::test_the_pixels_of_a_call_are_limited_together",
    ),
    34: case("deflated DICOM", "inputs/test_images.py::test_a_dicom_that_would_cost_or_deceive_is_refused"),
    35: case(
        "DICOM whose header does not fit its pixels",
        "inputs/test_images.py::test_a_dicom_that_would_cost_or_deceive_is_refused",
        "inputs/test_images.py::test_a_damaged_byte_never_raises_anything_else",
    ),
    36: case("DICOM tags without a meaning", "inputs/test_images.py::test_a_tag_without_a_meaning_is_named"),
    37: case(
        "images of patients that the model was not made for",
        "inputs/test_intended_use.py::test_a_film_of_another_patient_is_refused_by_its_header",
        "test_image_bodies.py::test_a_patient_that_it_was_not_made_for_is_refused",
        "inputs/test_images.py::test_monochrome1_is_answered_as_its_inverse",
    ),
    38: case("DICOM with a program in its preamble", "inputs/test_images.py::test_a_preamble_is_not_looked_at"),
    39: case(
        "wrong tokens of every kind",
        "auth/test_middleware.py::test_every_wrong_token_gets_the_same_answer",
        "auth/test_tokens.py::test_a_token_is_accepted_until_it_expires",
        "auth/test_jwt.py::test_claims_must_be_right",
        "auth/test_jwt.py::test_headers_must_be_right",
        "auth/test_jwt.py::test_a_key_that_the_token_brings_is_not_used",
        "auth/test_jwt.py::test_a_token_without_a_signature_by_a_public_key_is_refused",
        "auth/test_jwt.py::test_a_token_is_used_once",
    ),
    40: case(
        "a call of another user of this machine",
        "auth/test_middleware.py::test_a_token_is_needed_on_this_machine_too",
        "test_app.py::test_serve_run_asks_for_a_token",
    ),
    41: case(
        "/docs without a network",
        "routers/test_description.py::test_the_page_has_all_its_files_here",
        "test_page.py::test_nothing_is_loaded_from_elsewhere_and_no_script_may_stand_in_the_page",
    ),
    42: case(
        "a second start, and SIGKILL to proxy, controller and head",
        "limits/test_ports.py::test_a_port_that_would_be_shared_is_refused",
        f"{HAPROXY}test_haproxy_ends_when_the_process_dies_that_started_it",
        "test_kills.py::test_a_proxy_and_the_controller_come_back",
        "test_kills.py::test_everything_starts_again_with_the_same_token_when_the_head_dies",
        "test_start.py::test_a_service_whose_head_has_died_starts_again_with_the_same_tokens",
    ),
    43: case(
        "a body that is packed",
        f"{HAPROXY}test_calls_that_nobody_needs_are_refused",
        f"{PYTHON}test_malformed_requests_are_refused",
        "test_image_bodies.py::test_other_files_are_refused",
    ),
    44: case(
        "a job for Ray from the page of another site",
        "test_kills.py::test_no_port_of_a_service_is_open_to_the_network_and_none_takes_a_job",
        "test_start.py::test_replicas_call_each_other_on_this_machine_alone",
    ),
}


@cache
def names_in(file: str) -> frozenset[str]:
    """Names of the tests of a file, without importing it."""
    tree = ast.parse((ROOT / _HERE / file).read_text())
    return frozenset(
        one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")
    )


def test_every_case_is_held() -> None:
    assert list(CASES) == list(range(1, 45))


@pytest.mark.parametrize("number", CASES)
def test_every_named_test_exists(number: int) -> None:
    assert CASES[number].tests
    for named in CASES[number].tests:
        file, _, test = named.partition("::")
        assert test in names_in(file), named
