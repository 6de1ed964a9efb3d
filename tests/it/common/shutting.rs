//! Calls that last: an operation that waits, and a stream that watches it.

use sandyq::grpc::pb::{
    self, operation_service_client::OperationServiceClient, subject_service_client::SubjectServiceClient,
};
use tonic::transport::Channel;

use super::{
    people::tokenize_request,
    served::{Served, request_id},
};

/// Erases a subject, and answers the operation that will destroy its key hours later.
pub async fn erased(backend: Channel, admin: Channel, number: u32) -> String {
    let request = tokenize_request(number);
    let subject = pb::subject_name::Subject::SubjectReference(request.subject_reference.clone());
    pb::vault_service_client::VaultServiceClient::new(backend.clone()).tokenize(request).await.unwrap();
    let erase = pb::EraseSubjectRequest {
        request_id: request_id(),
        subject: Some(pb::SubjectName { subject: Some(subject) }),
        ..pb::EraseSubjectRequest::default()
    };
    SubjectServiceClient::new(backend).erase_subject(erase).await.unwrap();
    let list = pb::ListOperationsRequest { platform: "lerna".into(), ..pb::ListOperationsRequest::default() };
    let listed = OperationServiceClient::new(admin).list_operations(list).await.unwrap().into_inner();
    listed.operations.into_iter().find(|op| op.kind == "destroy_subject").unwrap().operation_id
}

/// The same on a served installation.
pub async fn watched(served: &Served) -> String {
    erased(served.channel("backend").await, served.channel("admin").await, 900).await
}
