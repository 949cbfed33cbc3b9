//! What is stored as a small number.
use sexton_model::deletion::RecordStatus;
use sexton_model::resource::Presence;

pub(super) fn of_status(status: RecordStatus) -> i16 {
    match status {
        RecordStatus::Live => 0,
        RecordStatus::Restoring => 1,
        RecordStatus::Cancelled => 2,
        RecordStatus::Recycled => 3,
        RecordStatus::Rescued => 4,
    }
}

pub(super) fn status(code: i16) -> Option<RecordStatus> {
    match code {
        0 => Some(RecordStatus::Live),
        1 => Some(RecordStatus::Restoring),
        2 => Some(RecordStatus::Cancelled),
        3 => Some(RecordStatus::Recycled),
        4 => Some(RecordStatus::Rescued),
        _ => None,
    }
}

pub(super) fn of_presence(presence: Presence) -> i16 {
    match presence {
        Presence::Registered => 0,
        Presence::Tombstone => 1,
        Presence::Recycled => 2,
    }
}

pub(super) fn presence(code: i16) -> Option<Presence> {
    match code {
        0 => Some(Presence::Registered),
        1 => Some(Presence::Tombstone),
        2 => Some(Presence::Recycled),
        _ => None,
    }
}
