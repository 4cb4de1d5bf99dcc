//! The half that talks: quinn, rustls, and the task that owns the core.
