use fe2o3_amqp::types::{
    messaging::{
        AmqpSequence, ApplicationProperties, Batch, Data, Header, Message as Encoded, MessageAnnotations, Properties,
        SerializableBody, message::__private::Serializable,
    },
    primitives::{Array, OrderedMap, SimpleValue, Symbol, Timestamp as Milliseconds, Uuid, Value as Amqp},
};
use proptest::proptest;

use super::*;

/// What the library makes of a message.
fn encoded<B: SerializableBody>(message: &Encoded<B>) -> Bytes {
    serde_amqp::to_vec(&Serializable(message)).expect("it can be encoded").into()
}

fn whole(bytes: &[u8]) -> Message {
    let (message, outcome) = message(&Bytes::copy_from_slice(bytes));
    assert_eq!(outcome, Ok(()));
    message
}

fn why_not(bytes: &[u8]) -> Malformed {
    message(&Bytes::copy_from_slice(bytes)).1.expect_err("it is none")
}

fn value_of(value: Amqp) -> Value {
    match whole(&encoded(&Encoded::builder().value(value).build())).body {
        Body::Value(value) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_sections_of_a_message_are_found() {
    let message = Encoded::builder()
        .header(Header::default())
        .message_annotations(MessageAnnotations(
            [("x-opt-sequence-number".into(), Amqp::Long(7)), (5_u64.into(), Amqp::Null)].into_iter().collect(),
        ))
        .properties(Properties::builder().message_id(3_u64).to("there").build())
        .application_properties(ApplicationProperties(
            [("unit".to_owned(), SimpleValue::String("C".to_owned()))].into_iter().collect(),
        ))
        .data_batch(vec![Data(vec![1, 2].into()), Data(vec![3].into())])
        .build();
    let message = whole(&encoded(&message));
    assert_eq!(
        message.annotations,
        [("x-opt-sequence-number".to_owned(), Value::Signed(7)), ("5".to_owned(), Value::Null)]
    );
    assert_eq!(message.properties[..3], [Value::Unsigned(3), Value::Null, Value::String("there".to_owned())]);
    assert_eq!(message.application_properties, [("unit".to_owned(), Value::String("C".to_owned()))]);
    assert_eq!(message.body, Body::Data(Bytes::from_static(&[1, 2, 3])));
    let sequences = Batch::from(vec![AmqpSequence(vec![Amqp::Int(1)]), AmqpSequence(vec![Amqp::Bool(true)])]);
    let message = whole(&encoded(&Encoded::builder().sequence_batch(sequences).build()));
    assert_eq!(message.body, Body::Sequence(vec![Value::Signed(1), Value::Boolean(true)]));
}

#[test]
fn values_of_every_type_are_read() {
    let text = "é".repeat(200);
    let cases = [
        (Amqp::Null, Value::Null),
        (Amqp::Bool(true), Value::Boolean(true)),
        (Amqp::Ubyte(200), Value::Unsigned(200)),
        (Amqp::Ushort(60_000), Value::Unsigned(60_000)),
        (Amqp::Uint(0), Value::Unsigned(0)),
        (Amqp::Uint(255), Value::Unsigned(255)),
        (Amqp::Uint(u32::MAX), Value::Unsigned(u32::MAX.into())),
        (Amqp::Ulong(u64::MAX), Value::Unsigned(u64::MAX)),
        (Amqp::Byte(-1), Value::Signed(-1)),
        (Amqp::Short(-2), Value::Signed(-2)),
        (Amqp::Int(-3), Value::Signed(-3)),
        (Amqp::Int(i32::MIN), Value::Signed(i32::MIN.into())),
        (Amqp::Long(-4), Value::Signed(-4)),
        (Amqp::Long(i64::MIN), Value::Signed(i64::MIN)),
        (Amqp::Float(0.5.into()), Value::Float(0.5)),
        (Amqp::Double(0.1.into()), Value::Float(0.1)),
        (Amqp::Decimal32([1, 2, 3, 4].into()), Value::Decimal(Bytes::from_static(&[1, 2, 3, 4]))),
        (Amqp::Char('é'), Value::Character('é')),
        (Amqp::Timestamp(Milliseconds::from_milliseconds(-5)), Value::Time(Timestamp(-5_000))),
        (Amqp::Uuid(Uuid::from([1; 16])), Value::Uuid(u128::from_be_bytes([1; 16]))),
        (Amqp::Binary(vec![7; 300].into()), Value::Binary(vec![7; 300].into())),
        (Amqp::String(text.clone()), Value::String(text)),
        (Amqp::Symbol(Symbol::from("s")), Value::Symbol("s".to_owned())),
        (Amqp::List(vec![]), Value::List(vec![])),
        (Amqp::List(vec![Amqp::Int(1); 300]), Value::List(vec![Value::Signed(1); 300])),
        (
            Amqp::Array(Array(vec![Amqp::String("a".to_owned()), Amqp::String("b".to_owned())])),
            Value::List(vec![Value::String("a".to_owned()), Value::String("b".to_owned())]),
        ),
        (
            Amqp::Map(OrderedMap::from_iter([(Amqp::Int(1), Amqp::List(vec![Amqp::Null]))])),
            Value::Map(vec![(Value::Signed(1), Value::List(vec![Value::Null]))]),
        ),
    ];
    for (sent, expected) in cases {
        assert_eq!(value_of(sent.clone()), expected, "{sent:?}");
    }
}

/// A body of lists, one in the other.
fn nested(depth: usize) -> Vec<u8> {
    let mut value = vec![0x45];
    for _ in 1..depth {
        let size = u32::try_from(value.len() + 4).expect("it is short").to_be_bytes();
        value = [&[0xd0][..], &size, &[0, 0, 0, 1], &value].concat();
    }
    [&[0x00, 0x53, 0x77][..], &value].concat()
}

#[test]
fn what_is_nested_beyond_measure_is_refused_and_what_the_sdks_send_is_not() {
    whole(&nested(64));
    for depth in [65, 20_000] {
        assert_eq!(why_not(&nested(depth)), "values in it are nested more than 64 deep");
    }
    // A described value has its descriptor described, and so on.
    assert_eq!(
        why_not(&[&[0x00, 0x53, 0x77][..], &[0; 100_000]].concat()),
        "values in it are nested more than 64 deep"
    );
    // Application properties {"tags": ["a"], "by": {"x": 1}}, as the SDKs of the vendor send them.
    let tags = [&[0xa1, 4][..], b"tags", &[0xc0, 4, 1, 0xa1, 1, b'a']].concat();
    let by = [&[0xa1, 2][..], b"by", &[0xc1, 6, 2, 0xa1, 1, b'x', 0x54, 1]].concat();
    let size = u8::try_from(tags.len() + by.len() + 1).expect("it is short");
    let message = whole(&[&[0x00, 0x53, 0x74, 0xc1, size, 4][..], &tags, &by].concat());
    let x = Value::Map(vec![(Value::String("x".to_owned()), Value::Signed(1))]);
    assert_eq!(
        message.application_properties,
        [("tags".to_owned(), Value::List(vec![Value::String("a".to_owned())])), ("by".to_owned(), x)]
    );
}

#[test]
fn an_array_of_what_takes_no_room_has_an_end() {
    let array = |count: u32| [&[0x00, 0x53, 0x77, 0xf0, 0, 0, 0, 5][..], &count.to_be_bytes(), &[0x41]].concat();
    assert_eq!(whole(&array(3)).body, Body::Value(Value::List(vec![Value::Boolean(true); 3])));
    assert_eq!(why_not(&array(u32::MAX)), "there are more values in it than bytes");
    let empty = [0x00, 0x53, 0x77, 0xe0, 2, 0, 0xa1];
    assert_eq!(whole(&empty).body, Body::Value(Value::List(vec![])));
    let of_lists = [0x00, 0x53, 0x77, 0xe0, 8, 2, 0xc0, 2, 1, 0x40, 2, 1, 0x41];
    let lists = vec![Value::List(vec![Value::Null]), Value::List(vec![Value::Boolean(true)])];
    assert_eq!(whole(&of_lists).body, Body::Value(Value::List(lists)));
}

/// With what came before: the number above all.
#[test]
fn what_is_not_whole_is_told_with_what_there_is_of_it() {
    let annotations = MessageAnnotations([("x-opt-sequence-number".into(), Amqp::Long(7))].into_iter().collect());
    let bytes = encoded(&Encoded::builder().message_annotations(annotations).value(Amqp::Long(1)).build());
    let (message, outcome) = message(&bytes.slice(..bytes.len() - 1));
    assert_eq!(outcome, Err(CUT));
    assert_eq!(message.annotations, [("x-opt-sequence-number".to_owned(), Value::Signed(7))]);
}

proptest! {
    #[test]
    fn no_bytes_do_any_harm(bytes: Vec<u8>) {
        for section in [0x71, 0x73, 0x75, 0x77] {
            let _ = message(&[&[0x00, 0x53, section][..], &bytes].concat().into());
        }
        let _ = (end_of_transfer(&bytes), place_of_frame_limit(&bytes), place_of_message_limit(&bytes));
    }

    #[test]
    fn nor_does_a_message_with_a_wrong_byte(at: usize, byte: u8) {
        let mut bytes = nested(20);
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = message(&bytes.into());
    }
}
