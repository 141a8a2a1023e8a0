"""Action tokenizers: chunks of actions to ids and back, each way trained and judged on a user's own recording."""
