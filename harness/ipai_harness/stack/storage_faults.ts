/** What the platform's storage refuses, and how it says so. */

/** A refusal. The HTTP status is 400 for all but the service's own faults; `status` stands in the body, as text. */
export class StorageFault extends Error {
  constructor(readonly status: number, readonly error: string, message: string) {
    super(message);
  }

  answer(): Response {
    const body = { statusCode: String(this.status), error: this.error, message: this.message };
    return Response.json(body, { status: this.status >= 500 ? this.status : 400 });
  }
}

export const FAULTS = {
  bucketNotFound: () => new StorageFault(404, "Bucket not found", "Bucket not found"),
  objectNotFound: () => new StorageFault(404, "not_found", "Object not found"),
  routeNotFound: () => new StorageFault(404, "not_found", "Route not found"),
  duplicate: () => new StorageFault(409, "Duplicate", "The resource already exists"),
  notEmpty: () => new StorageFault(409, "ResourceNotEmpty", "The bucket you tried to delete is not empty"),
  unauthorized: (message = "new row violates row-level security policy") =>
    new StorageFault(403, "Unauthorized", message),
  invalidJwt: (message: string) => new StorageFault(400, "InvalidJWT", message),
  invalidSignature: () => new StorageFault(400, "InvalidSignature", "Invalid signature"),
  invalidKey: (key: string) => new StorageFault(400, "InvalidKey", `Invalid key: ${key.slice(0, 200)}`),
  invalidBucket: () => new StorageFault(400, "Invalid Input", "Bucket name invalid"),
  invalidRequest: (message: string) => new StorageFault(400, "InvalidRequest", message),
  invalidRange: () => new StorageFault(400, "invalid_range", "invalid range provided"),
  tooLarge: () => new StorageFault(413, "Payload too large", "The object exceeded the maximum allowed size"),
  mimeType: (type: string) => new StorageFault(415, "invalid_mime_type", `mime type ${type} is not supported`),
  internal: () => new StorageFault(500, "InternalError", "Internal server error"),
};
