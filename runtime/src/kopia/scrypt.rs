//! scrypt
