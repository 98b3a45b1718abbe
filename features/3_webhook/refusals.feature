@webhook @law_6
Feature: Nothing forged, altered, stale or replayed is stored

  Scenario Outline: A request with <fault> is refused
    When a request is sent with <fault>
    Then it is refused with <status> "<code>"
    And nothing of it is stored

    Examples:
      | fault                                             | status | code                      |
      | a body that was altered on its way                | 401    | bad_signature             |
      | a space added to its body                         | 401    | bad_signature             |
      | a signature made with another secret              | 401    | bad_signature             |
      | a signature of another timestamp                  | 401    | bad_signature             |
      | a signature in upper case                         | 401    | malformed_signature       |
      | a timestamp of 6 minutes ago                      | 401    | stale_timestamp           |
      | a timestamp 6 minutes ahead                       | 401    | stale_timestamp           |
      | a timestamp that is no number                     | 401    | malformed_timestamp       |
      | no signature                                      | 401    | missing_signature         |
      | the Standard Webhooks id of another event         | 401    | webhook_id_mismatch       |
      | a Standard Webhooks signature of another secret   | 401    | bad_webhook_signature     |
      | no idempotency key                                | 400    | missing_idempotency_key   |
      | an idempotency key that is no UUID                | 400    | malformed_idempotency_key |
      | an instance name with a space                     | 400    | malformed_instance        |
      | a body that is not JSON                           | 400    | invalid_json              |
      | a body that is not UTF-8                          | 400    | invalid_utf8              |
      | a byte order mark                                 | 400    | invalid_utf8              |
      | a body without a payload                          | 400    | invalid_event             |
      | a fifth key in its body                           | 400    | invalid_event             |
      | a number as the record's id                       | 400    | invalid_event             |
      | a body of more than 1 MiB                         | 413    | payload_too_large         |
      | the method GET                                    | 405    | method_not_allowed        |
      | the content type text/plain                       | 415    | unsupported_media_type    |

  Scenario: A request that was captured cannot be sent again under another key
    When the event "project.task.done" of the record "42" is sent with {}
    And the captured request is sent again under another key, without the Standard Webhooks headers
    Then it is refused with 401 "replayed_signature"

  Scenario: A request that was captured cannot be sent again as another Odoo's
    When the event "project.task.done" of the record "42" is sent with {}
    And the captured request is sent again as another Odoo's
    Then it is refused with 401 "replayed_signature"

  Scenario Outline: A timestamp <when> is taken
    When a request is sent with a timestamp <when>
    Then the answer is 200 and says that it is new

    Examples:
      | when                                |
      | of 4 minutes ago                    |
      | 4 minutes ahead                     |
      | in seconds, signed as it was sent   |
