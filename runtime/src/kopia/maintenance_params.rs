//! maintenance_params
