// Asks a gRPC server for its schema (grpc.reflection.v1) and makes a client of one of its services from the answer.

/** The reflection protocol itself, as far as it is used here; grpc/reflection/v1/reflection.proto has the whole. */
const REFLECTION = {
  nested: {
    grpc: { nested: { reflection: { nested: { v1: { nested: {
      ServerReflection: {
        methods: {
          ServerReflectionInfo: {
            requestType: 'ServerReflectionRequest', requestStream: true,
            responseType: 'ServerReflectionResponse', responseStream: true,
          },
        },
      },
      ServerReflectionRequest: {
        fields: { fileContainingSymbol: { id: 4, type: 'string' }, listServices: { id: 7, type: 'string' } },
        oneofs: { messageRequest: { oneof: ['fileContainingSymbol', 'listServices'] } },
      },
      ServerReflectionResponse: {
        fields: {
          fileDescriptorResponse: { id: 4, type: 'FileDescriptorResponse' },
          listServicesResponse: { id: 6, type: 'ListServiceResponse' },
          errorResponse: { id: 7, type: 'ErrorResponse' },
        },
      },
      FileDescriptorResponse: { fields: { fileDescriptorProto: { id: 1, rule: 'repeated', type: 'bytes' } } },
      ListServiceResponse: { fields: { service: { id: 1, rule: 'repeated', type: 'ServiceResponse' } } },
      ServiceResponse: { fields: { name: { id: 1, type: 'string' } } },
      ErrorResponse: { fields: { errorCode: { id: 1, type: 'int32' }, errorMessage: { id: 2, type: 'string' } } },
    } } } } } },
  },
};

/** Return the names of the server's services. */
export async function listServices(libraries, address, credentials) {
  const [reply] = await ask(libraries, address, credentials, [{ listServices: '' }]);
  return reply.listServicesResponse.service.map((service) => service.name);
}

/** Return a client of the service with this full name, from the files that describe it. */
export async function reflectClient(libraries, address, credentials, name) {
  const { grpc, loader } = libraries;
  const [reply] = await ask(libraries, address, credentials, [{ fileContainingSymbol: name }]);
  if (reply.errorResponse) throw new Error(`${address} describes no ${name}: ${reply.errorResponse.errorMessage}`);
  const files = reply.fileDescriptorResponse.fileDescriptorProto;
  const set = Buffer.concat(files.flatMap((file) => [Buffer.from([0x0a, ...varint(file.length)]), file]));
  const schema = loader.loadFileDescriptorSetFromBuffer(set, { longs: String, enums: String, defaults: true, oneofs: true });
  return new (grpc.makeGenericClientConstructor(schema[name], name))(address, credentials);
}

/** Return the server's replies to the requests, in order. */
function ask({ grpc, loader }, address, credentials, requests) {
  const schema = loader.fromJSON(REFLECTION)['grpc.reflection.v1.ServerReflection'];
  const client = new (grpc.makeGenericClientConstructor(schema, 'ServerReflection'))(address, credentials);
  return new Promise((resolve, reject) => {
    const [replies, stream] = [[], client.ServerReflectionInfo()];
    stream.on('data', (reply) => replies.push(reply));
    stream.on('error', reject);
    stream.on('end', () => resolve(replies));
    requests.forEach((request) => stream.write(request));
    stream.end();
  }).finally(() => client.close());
}

/** Return a length as protobuf writes it. */
function varint(value) {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >>> 7)];
}
